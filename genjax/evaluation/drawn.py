"""What evaluators look at: parts of the data, and samples as they are kept of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from genjax.data.dataset import Split


@dataclass(frozen=True)
class Drawn:
    """Samples that evaluators looked at.

    Attributes:
      samples: in model space, [N, ...]; None of texts that are given as such.
      prompts: that texts answer, [N].
      texts: the responses, [N].
      scores: of the samples one by one, [N], by name.
    """

    samples: np.ndarray | None = None
    prompts: Sequence[str] = ()
    texts: Sequence[str] = ()
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Some examples of a split, as a split of its own.

    Attributes:
      whole: the split.
      rows: of it, [N].
    """

    whole: Split
    rows: np.ndarray

    @property
    def in_memory(self) -> bool:
        return self.whole.in_memory

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return self.whole.batch(self.rows[indices])
