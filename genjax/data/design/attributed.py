"""Images with attributes that are measured from their pixels and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Batch, Dataset, Split
from genjax.data.design.attributes import Attributes
from genjax.data.splits import digest
from genjax.errors import UserError


@checks.frozen
class Attributed:
    """Images of another source, with their attributes as the condition.

    Attributes:
      data: source of the images.
      attributes: what is measured, and how it is embedded; the same for the family's ``text``.
    """

    data: Component
    attributes: Attributes

    def open(self) -> Dataset:
        """Open the data set; batches hold ``condition`` float32 [B, D] besides what they held.

        Raises:
          UserError: the data are not images, have conditions of their own, or an attribute that is
            the label has another number of values than there are labels.
        """
        data = self.data.open()
        if data.spec.entry != "image" or data.spec.condition is not None:
            held = "conditions" if data.spec.entry == "image" else data.spec.entry
            raise UserError(f"Attributed needs images without conditions, got {held}", "data")
        for one in self.attributes.attributes:
            if one.measure is None and len(one.values) != data.spec.classes:
                raise UserError(
                    f"the attribute {one.name!r} must have a value for each of "
                    f"{data.spec.classes} labels, got {len(one.values)}",
                    "attributes",
                )
        return replace(
            data,
            splits={
                name: AttributedSplit(split, self.attributes) for name, split in data.splits.items()
            },
            spec=replace(data.spec, condition=self.attributes.width),
            fingerprint=digest(
                part.encode()
                for part in (data.fingerprint, *(a.describe() for a in self.attributes.attributes))
            ),
        )


@dataclass(frozen=True)
class AttributedSplit:
    """A split with the attributes of each example.

    Attributes:
      whole: the split of images.
      attributes: what is measured.
    """

    whole: Split
    attributes: Attributes

    @property
    def in_memory(self) -> bool:
        return self.whole.in_memory

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: np.ndarray) -> Batch:
        batch = self.whole.batch(indices)
        numbers = self.attributes.measure(batch["image"], batch.get("label"))
        return {**batch, "condition": self.attributes.encode(numbers)}
