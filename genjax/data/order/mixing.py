"""In which order examples of several parts come, whose proportions change with the step."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from genjax.data.stream import permutation, raw_bits

UNIT = (
    2**20
)  # proportions are whole numbers of this many parts, so that counts are exact on every machine
# Philox streams apart from the epochs, which count up from 0.
ARRANGED = 2**63 + 2**34
SEEDS = ARRANGED + 1


@functools.lru_cache(maxsize=16)  # a batch may straddle two epochs of each part
def _order(seed: int, epoch: int, size: int) -> np.ndarray:
    return permutation(seed, epoch, size)


def round_weights(weights: np.ndarray) -> np.ndarray:
    """Weights [..., K], not negative, as whole numbers [..., K] int64 that add up to ``UNIT``."""
    edges = np.rint(np.cumsum(weights, -1) / np.sum(weights, -1, keepdims=True) * UNIT).astype(
        np.int64
    )
    edges[..., -1] = UNIT
    return np.diff(edges, axis=-1, prepend=0)


@dataclass(frozen=True)
class Blend:
    """The order of a mixture: a pure function of (seed, position), whose cost does not grow with
    the position.

    Of the examples before any step each of K parts has its due, the sum of its proportions so far,
    rounded: half an example off at most of two parts, one of up to four, and half of one more each
    time that K doubles. For that the parts are halved again and again: of the m examples of a
    group, as many are of its first half as this was due when the group was due m, rounded. When
    that was is found by bisection in a table of sums for the steps in which proportions change, and
    by a division after them. Within a step the parts come in random order. Each part is shuffled
    again for each of its epochs, in which each of its examples comes once.

    Attributes:
      sizes: examples of each part, which stand end to end.
      units: proportions [S + 1, K] int64 at the steps, each row adding up to ``UNIT``; the last
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
        """How many of the examples before each of ``positions`` [N] are of each part: [N, K]
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
        """How many examples [N] of the parts ``some`` of a group are due when this many [N] of
        the whole group are.
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
        """``units`` [S + 1, K] of a position in each step, added up over the steps before it."""
        return np.cumsum(self.units, 0) - self.units
