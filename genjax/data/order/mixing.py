"""The order of the examples of a mixture, whose proportions may change with the step."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from genjax.data.stream import permutation, raw_bits

# Proportions are multiples of 1 / UNIT, so that counts are exact on every machine.
UNIT = 2**20
# Philox streams that the epochs, which count up from 0, never reach.
ARRANGED = 2**63 + 2**34
SEEDS = ARRANGED + 1


@functools.lru_cache(maxsize=16)  # a batch may straddle two epochs of each part
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return permutation(seed, epoch, size)


def round_weights(weights: np.ndarray) -> np.ndarray:
    """Scale weights [..., K] >= 0 to whole numbers [..., K] int64 that add up to ``UNIT``."""
    edges = np.rint(np.cumsum(weights, -1) / np.sum(weights, -1, keepdims=True) * UNIT).astype(
        np.int64
    )
    edges[..., -1] = UNIT
    return np.diff(edges, axis=-1, prepend=0)


@dataclass(frozen=True)
class Blend:
    """The order of a mixture: a pure function of (seed, position) whose cost does not grow with the
    position.

    Before any step, each of K parts has had its share of the examples, the sum of its proportions
    so far, up to rounding: the error is at most half an example for two parts, one for four, and
    half an example more each time K doubles. To achieve this, the parts are divided into halves
    recursively: when a group has had m examples, its first half has had the rounded share that was
    due when the group's share was m. That moment is found by bisection in a table of sums while the
    proportions change, and by a division afterwards. Within a step the parts are in random order.
    Each part is reshuffled for each of its epochs, in which each of its examples occurs once.

    Attributes:
      sizes: number of examples of each part; the parts are stored end to end.
      units: proportions [S + 1, K] int64 at each step, each row adding up to ``UNIT``; the last row
        holds from step S on.
    """

    sizes: tuple[int, ...]
    units: np.ndarray

    def __call__(self, seed: int, position: int, count: int, batch_size: int) -> np.ndarray:
        first, last = position // batch_size, -(-(position + count) // batch_size)
        counts = self.count_before(np.arange(first * batch_size, last * batch_size + 1), batch_size)
        part = np.diff(counts, axis=0).argmax(1).reshape(-1, batch_size)
        rank = np.take_along_axis(counts[:-1], part.reshape(-1, 1), 1).reshape(part.shape)
        words = raw_bits(seed, ARRANGED, part.size, first=first * batch_size).reshape(part.shape)
        arranged = np.argsort(words, axis=1, kind="stable")
        chosen = slice(position - first * batch_size, position - first * batch_size + count)
        part, rank = (np.take_along_axis(x, arranged, 1).ravel()[chosen] for x in (part, rank))

        result = np.empty(count, np.int64)
        seeds = raw_bits(seed, SEEDS, len(self.sizes))
        for number, size in enumerate(self.sizes):
            epoch = rank // size
            for one in np.unique(epoch[part == number]):
                here = (part == number) & (epoch == one)
                result[here] = (
                    sum(self.sizes[:number])
                    + _order(int(seeds[number]), int(one), size)[rank[here] % size]
                )
        return result

    def count_before(self, positions: np.ndarray, batch_size: int) -> np.ndarray:
        """Return how many examples of each part come before each of ``positions`` [N], [N, K]
        int64.
        """
        result = np.empty((len(positions), len(self.sizes)), np.int64)

        def divide(first: int, last: int, counts: np.ndarray) -> None:
            if last - first == 1:
                result[:, first] = counts
                return
            middle = (first + last) // 2
            left = self._count_due(slice(first, middle), slice(first, last), counts, batch_size)
            divide(first, middle, left)
            divide(middle, last, counts - left)

        divide(0, len(self.sizes), np.asarray(positions, np.int64))
        return result

    def _count_due(
        self, some: slice, group: slice, counts: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """Return how many examples [N] of the parts ``some`` are due when ``counts`` [N] of their
        group are.
        """
        due, of_some = (batch_size * self._sums[:, parts].sum(1) for parts in (group, some))
        rate, rate_of_some = (self.units[:, parts].sum(1) for parts in (group, some))
        step = np.searchsorted(due, counts * UNIT, side="right") - 1
        whole, rest = np.divmod(counts * UNIT - due[step], np.maximum(rate[step], 1))
        units = (
            of_some[step]
            + whole * rate_of_some[step]
            + rest * rate_of_some[step] // np.maximum(rate[step], 1)
        )
        return (units + UNIT // 2) // UNIT

    @functools.cached_property
    def _sums(self) -> np.ndarray:
        """Proportions [S + 1, K] summed over the steps before each step, per position in a step."""
        return np.cumsum(self.units, 0) - self.units
