"""Estimate the probability that pairs of rows are duplicates, from the agreement of their columns
and without labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

ROUNDS = 200  # most rounds of expectation and maximisation
SETTLED = 1e-6  # largest change of a probability in the last round
CHANCE = 0.15  # fraction of a column's evidence; less remains where values agree by chance
MUCH = 0.4  # fraction of the evidence of all columns
PRIOR = 1.0  # pseudo-count of pairs at each level
MISSING = -1  # the level of a pair with a missing value

Shares = list[np.ndarray]  # probability of each level, for each comparison


def estimate(
    levels: np.ndarray, random: np.ndarray, sizes: Sequence[int], count: int
) -> tuple[np.ndarray, Shares]:
    """Return the probability of pairs [M] and the weights of each comparison's levels, by
    expectation and maximisation.

    Blocks select pairs that agree. So the levels of non-duplicates are estimated from random pairs,
    and the prior is that of any two rows of the table, not of a block: the agreement of the block's
    values is part of the evidence. Hardly any pair outside the blocks is a duplicate. A third kind
    of pairs is related, like people of one household: they agree in some columns together, and in
    the others no more than any two rows.

    Args:
      levels: levels of the pairs [M, C].
      random: levels of random pairs [R, C].
      sizes: number of levels of each comparison.
      count: number of rows of the table.
    """
    patterns, of_pair, counts = _patterns(levels)
    others, _, other_counts = _patterns(random)
    pairs = count * (count - 1) / 2
    drawn = [_count(others[:, c], other_counts, size) for c, size in enumerate(sizes)]
    table = _Table(patterns, counts, pairs, [n * (pairs / max(len(random), 1)) for n in drawn])
    apart = [_share(levels) for levels in drawn]
    # Duplicates mostly agree, related rows half as often.
    same = [np.append(np.full(size - 1, 0.3 / (size - 1)), 0.7) for size in sizes]
    related = [(one + other) / 2 for one, other in zip(same, apart, strict=True)]
    guess, chances = [same, related], np.full(2, (count + PRIOR) / (2 * count + pairs + 2 * PRIOR))
    kinds, posterior = table.fit(guess, guess, apart, chances)
    if not _are_others(kinds[0], kinds[1], apart):  # they are duplicates with more errors
        guess, posterior = [same], np.stack([posterior[:2].sum(0), posterior[2]])
        kinds = table.kinds(posterior, guess)
        kinds, posterior = table.fit(guess, kinds, apart, table.share(posterior))
    apart = table.subtract(posterior)
    kinds, posterior = table.fit(guess, kinds, apart, table.share(posterior))
    weights = [np.log2(one / other) for one, other in zip(kinds[0], apart, strict=True)]
    return posterior[0][of_pair], weights


class _Table(NamedTuple):
    """The pairs to explain.

    Attributes:
      patterns: distinct levels of the pairs in blocks [P, C].
      counts: number of pairs with each pattern [P].
      pairs: number of pairs of all rows.
      levels: approximate number of pairs at each level of each comparison, among all pairs.
    """

    patterns: np.ndarray
    counts: np.ndarray
    pairs: float
    levels: Shares

    def share(self, posterior: np.ndarray) -> np.ndarray:
        """Return the share [K] of each kind except the last among all pairs, given the probability
        [K + 1, P] of each kind for each pattern.
        """
        return (posterior[:-1] @ self.counts + PRIOR) / (self.pairs + 2 * PRIOR)

    def count_levels(self, posterior: np.ndarray) -> list[Shares]:
        """Count the pairs at each level, for each kind except the last."""
        columns = [*zip(self.patterns.T, self.levels, strict=True)]
        return [
            [_count(levels, self.counts * one, len(every)) for levels, every in columns]
            for one in posterior[:-1]
        ]

    def kinds(self, posterior: np.ndarray, guess: list[Shares]) -> list[Shares]:
        """Return the probability of each level, for each kind except the last."""
        return [
            [_share(found, levels) for found, levels in zip(kind, guessed, strict=True)]
            for kind, guessed in zip(self.count_levels(posterior), guess, strict=True)
        ]

    def subtract(self, posterior: np.ndarray) -> Shares:
        """Return the probability of each level in the last kind: all pairs minus the other kinds,
        which matter in a small table.
        """
        found = [sum(column) for column in zip(*self.count_levels(posterior), strict=True)]
        rest = zip(self.levels, found, strict=True)
        return [_share(np.maximum(every - some, 0)) for every, some in rest]

    def fit(
        self, guess: list[Shares], kinds: list[Shares], apart: Shares, chances: np.ndarray
    ) -> tuple[list[Shares], np.ndarray]:
        """Return the probability of each level in each kind, and the probability [K + 1, P] of each
        kind for each pattern. The last kind are unrelated rows.

        Args:
          guess: prior probabilities of the levels in each kind.
          kinds: initial probabilities of the levels in each kind.
          apart: probability of each level in the last kind.
          chances: initial probabilities of the kinds.
        """
        probability = np.ones(len(self.patterns))
        for _ in range(ROUNDS):
            before = probability
            posterior = _posterior(self.patterns, (*kinds, apart), chances)
            probability = posterior[0]
            kinds, chances = self.kinds(posterior, guess), self.share(posterior)
            if np.abs(probability - before).max(initial=0) < SETTLED:
                break
        return kinds, posterior


def _are_others(same: Shares, related: Shares, apart: Shares) -> bool:
    """Return whether related pairs are not duplicates: then columns with much of the evidence, such
    as first names and dates of birth in a household, agree only by chance. Errors leave more.
    """
    bits = [
        (_divergence(one, none), _divergence(some, none))
        for one, some, none in zip(same, related, apart, strict=True)
    ]
    by_chance = sum(one for one, some in bits if some < CHANCE * one)
    return by_chance > MUCH * sum(one for one, _ in bits)


def _divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Kullback-Leibler divergence in bits."""
    return float(np.sum(one * np.log2(one / other)))


def join_codes(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Combine several codes to one [N] that sorts like them."""
    joint = np.zeros(len(parts[0]), np.int64)
    for part in parts:
        joint = np.unique(joint * (int(part.max(initial=0)) + 1) + part, return_inverse=True)[1]
    return joint


def _patterns(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows [P, C] of levels [M, C], the index of each row in them [M], and
    their counts [P].
    """
    joint = join_codes(list(levels.T + 1))
    _, first, inverse, counts = np.unique(
        joint, return_index=True, return_inverse=True, return_counts=True
    )
    return levels[first], inverse, counts


def _count(levels: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Return the total weight of each level [size], ignoring missing values."""
    there = levels != MISSING
    return np.bincount(levels[there], weights[there], size)


def _share(counts: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
    """Return the share of each level, with as many pseudo-counts as levels, spread like ``guess``
    or uniformly.
    """
    prior = PRIOR if guess is None else PRIOR * len(counts) * guess
    return (counts + prior) / (counts + prior).sum()


def _posterior(patterns: np.ndarray, kinds: Sequence[Shares], chances: np.ndarray) -> np.ndarray:
    """Return the probability [K, P] of each kind for pairs with patterns [P, C].

    Args:
      patterns: levels of the pairs.
      kinds: probabilities of the levels of each comparison for each kind.
      chances: prior probabilities of all kinds except the last.
    """
    others = max(1 - chances.sum(), np.finfo(float).tiny)
    total = np.log(np.append(chances, others))[:, None] + np.zeros(len(patterns))
    for row, kind in zip(total, kinds, strict=True):
        for levels, shares in zip(patterns.T, kind, strict=True):
            row += np.where(levels == MISSING, 0.0, np.log(shares)[levels])
    return softmax(total, axis=0)
