"""A mixture of other sources, in proportions that may change during training."""

from __future__ import annotations

import dataclasses
import reprlib
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Batch, Dataset, Spec, Split
from genjax.data.order.mixing import Blend, round_weights
from genjax.data.splits import digest
from genjax.data.stream import Order, own_order
from genjax.data.text.dataset import get_tokenizer, set_codec
from genjax.errors import UserError
from genjax.schedules import Constant, Schedule


@checks.frozen
class Mixture:
    """Mixes the training examples of several sources.

    The held-out splits of the sources are joined end to end, so that each example counts once,
    whatever the weights.

    Attributes:
      sources: sources whose examples have the same entries, shapes and codec.
      weights: one schedule per source, a function of the step; at every step the weights are
        divided by their sum.
      steps: step from which the weights stay constant; schedules without a length of their own end
        here.
      codec: codec of text for sources whose own codec has no vocabulary; None for that of the first
        source. Without a vocabulary it is fitted to the first source.
    """

    sources: tuple[Any, ...]
    weights: tuple[Schedule, ...] = (Constant(0.5), Constant(0.5))
    steps: int = 10_000
    codec: Component = None

    def __post_init__(self) -> None:
        if not self.sources or len(self.weights) != len(self.sources):
            raise UserError(
                f"weights must have one schedule per source, got {len(self.weights)} for "
                f"{len(self.sources)} sources",
                "weights",
            )
        if not all(isinstance(weight, Schedule) for weight in self.weights):
            raise UserError(
                "weights must be schedules, such as Constant(0.5) for a constant", "weights"
            )
        checks.at_least(self, 1, "steps")

    def open(self) -> Dataset:
        """Open the data set; batches hold the entries of the sources.

        Raises:
          UserError: the sources differ in their entries or splits, a weight is negative, or all are
            0.
        """
        units = round_weights(self._compute_weights())
        head, *others = self.sources
        first = (head if self.codec is None else set_codec(head, self.codec)).open()
        opened = [first, *(set_codec(source, first.codec).open() for source in others)]
        for number, data in enumerate(opened):
            _check_alike(first, data, number)
        sizes = tuple(len(data.splits["train"]) for data in opened)
        mean = np.average([data.spec.mean for data in opened], 0, sizes).astype(np.float32)
        splits = {
            name: EndToEnd(tuple(data.splits[name] for data in opened)) for name in first.splits
        }
        splits["train"] = dataclasses.replace(splits["train"], order=Blend(sizes, units))
        fingerprint = digest(data.fingerprint.encode() for data in opened)
        origins = tuple(origin for data in opened for origin in data.origins)
        remarks = tuple(line for data in opened for line in data.remarks)
        return Dataset(
            splits,
            dataclasses.replace(first.spec, mean=mean),
            first.codec,
            fingerprint,
            origins,
            remarks,
        )

    def _compute_weights(self) -> np.ndarray:
        """Return the normalised weights [steps + 1, K] float64."""
        steps = jnp.arange(self.steps + 1)
        found = np.stack(
            [
                np.asarray(weight.with_steps(self.steps)(steps), np.float64)
                for weight in self.weights
            ],
            1,
        )
        wrong = ~(found >= 0).all(1) | ~np.isfinite(found).all(1) | (found.sum(1) == 0)
        if wrong.any():
            step = int(wrong.argmax())
            raise UserError(
                f"weights must be >= 0 and not all 0, got {found[step]} at step {step}", "weights"
            )
        return found


def _check_alike(first: Dataset, data: Dataset, number: int) -> None:
    """Refuse source ``number`` if it does not fit the first one."""
    if own_order(data.splits["train"]) is not None:
        raise UserError(
            f"sources must not contain a Mixture, got one as source {number}: list its sources "
            "here, with their own weights",
            "sources",
        )
    for field in dataclasses.fields(Spec):
        of_first, own = getattr(first.spec, field.name), getattr(data.spec, field.name)
        if field.name != "mean" and of_first != own:
            raise UserError(
                f"sources 0 and {number} of a mixture differ in {field.name}: "
                f"{reprlib.repr(of_first)} and {reprlib.repr(own)}"
            )
    if get_tokenizer(first.codec) != get_tokenizer(data.codec):
        raise UserError(f"sources 0 and {number} of a mixture differ in their codecs")
    if first.splits.keys() != data.splits.keys():
        names = (", ".join(sorted(splits)) for splits in (first.splits, data.splits))
        raise UserError(
            f"sources 0 and {number} of a mixture differ in their splits: {' and '.join(names)}"
        )


@dataclass(frozen=True)
class EndToEnd:
    """Joins splits end to end.

    Attributes:
      parts: splits with the same entries.
      order: order of training examples; None for each once per epoch.
    """

    parts: tuple[Split, ...]
    order: Order | None = None

    @property
    def in_memory(self) -> bool:
        return all(part.in_memory for part in self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def batch(self, indices: np.ndarray) -> Batch:
        ends = np.cumsum([len(part) for part in self.parts])
        of = np.searchsorted(ends, indices, side="right")
        rows = [np.flatnonzero(of == number) for number in range(len(self.parts))]
        found = [
            part.batch(np.asarray(indices)[at] - (end - len(part)))
            for part, at, end in zip(self.parts, rows, ends, strict=True)
            if len(at)
        ]
        back = np.argsort(np.concatenate(rows), kind="stable")
        return {name: np.concatenate([batch[name] for batch in found])[back] for name in found[0]}
