"""Rows of several sentence pairs, as most sentences are much shorter than the longest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from genjax.data.dataset import Batch

OPEN = 64  # open rows that a pair may go to


class PairRows(Protocol):
    """Pairs to pack: sources of at most S tokens and targets of at most T + 1."""

    @property
    def codec(self) -> Any: ...

    @property
    def source_length(self) -> int: ...

    @property
    def length(self) -> int: ...

    @property
    def sizes(self) -> np.ndarray:
        """Number of tokens on each side of each pair [N, 2]."""
        ...

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the source tokens [M] and target tokens [N] of a pair."""
        ...


@dataclass(frozen=True)
class PackedPairs:
    """Rows of pairs; a target attends only to its own source.

    Attributes:
      pairs: all pairs.
      members: indices of the pairs, row after row, [N] int64.
      first: index in ``members`` where each row starts, then their number, [R + 1] int64.
    """

    pairs: PairRows
    members: np.ndarray
    first: np.ndarray

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.first) - 1

    def batch(self, indices: np.ndarray) -> Batch:
        pairs, count = self.pairs, len(indices)
        source, target = (count, pairs.source_length), (count, pairs.length + 1)
        batch = {
            "source_tokens": np.full(source, pairs.codec.source.pad or 0, np.int32),
            "source_segment_ids": np.zeros(source, np.int32),
            "source_positions": np.zeros(source, np.int32),
            "tokens": np.full(target, pairs.codec.pad or 0, np.int32),
            "segment_ids": np.zeros(target, np.int32),
            "positions": np.zeros(target, np.int32),
        }
        for b, row in enumerate(np.asarray(indices).tolist()):
            at = [0, 0]
            for segment, number in enumerate(
                self.members[self.first[row] : self.first[row + 1]].tolist(), 1
            ):
                for side, (prefix, ids) in enumerate(
                    zip(("source_", ""), pairs.pair(number), strict=True)
                ):
                    part = b, slice(at[side], at[side] + len(ids))
                    batch[f"{prefix}tokens"][part] = ids
                    batch[f"{prefix}segment_ids"][part] = segment
                    batch[f"{prefix}positions"][part] = np.arange(len(ids))
                    at[side] += len(ids)
        real = (batch["segment_ids"] > 0) & (batch["positions"] > 0)  # start tokens are given
        mask = (batch["source_segment_ids"] > 0).astype(np.float32)
        return batch | {"source_mask": mask, "loss_mask": real.astype(np.float32)}


def pack_pairs(pairs: PairRows) -> PackedPairs:
    """Put each pair in the row where it leaves the least room, among the last ``OPEN`` rows with
    room for both sides.
    """
    sizes = pairs.sizes
    rooms = np.zeros((OPEN, 2), np.int64)
    rows = np.full(OPEN, -1)  # the number of each open row
    row = np.empty(len(sizes), np.int64)
    count, none = 0, np.iinfo(np.int64).max
    for number, size in enumerate(sizes):
        left = rooms - size
        space = np.where(left.min(1) >= 0, left.sum(1), none)
        place = int(space.argmin())
        if space[place] == none:
            place = count % OPEN  # replace the oldest
            rooms[place], rows[place] = (pairs.source_length, pairs.length + 1), count
            count += 1
        rooms[place] -= size
        row[number] = rows[place]
    order = np.argsort(row, kind="stable")
    return PackedPairs(pairs, order, np.searchsorted(row[order], np.arange(count + 1)))
