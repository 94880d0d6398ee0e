"""What a family knows of each training example before the first step, beside the example's own entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from genjax.data.dataset import Batch, Split
from genjax.data.stream import padded
from genjax.family import Family, State
from genjax.parallel import Layout


@dataclass(frozen=True)
class Enriched:
    """A split whose examples have more entries.

    Attributes:
      split: the examples.
      entries: arrays [N, ...] by name, in its order.
    """

    split: Split
    entries: Mapping[str, np.ndarray]

    @property
    def in_memory(self) -> bool:
        return self.split.in_memory

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, indices: np.ndarray) -> Batch:
        return {**self.split.batch(indices), **{name: array[indices] for name, array in self.entries.items()}}


def enriched(family: Family, state: State, split: Split, layout: Layout, batch_size: int) -> Split:
    """The split with what ``family.known(state, batch)`` gives for each example; itself where that is nothing."""
    if family.known is None:
        return split
    compiled = layout.compile_evaluation(family.known)
    batches = padded(split, batch_size, layout.rows(batch_size))
    parts = [jax.device_get(compiled(state, layout.place(batch))) for batch in batches]
    return Enriched(split, jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(split)], *parts))
