"""How likely pairs of rows are one, estimated from how their columns agree, without any truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

ROUNDS = 200  # of expectation and maximisation, at most
SETTLED = 1e-6  # how little a probability changes in the last of them
CHANCE = 0.15  # of the evidence of a column: less of it is left where values agree by chance
MUCH = 0.4  # of the evidence of all columns
PRIOR = 1.0  # pairs that each level is seen in beforehand
MISSING = -1  # the level of a pair of which one value is

Shares = list[np.ndarray]  # of each level of each comparison


def estimate(
    levels: np.ndarray, random: np.ndarray, sizes: Sequence[int], count: int
) -> tuple[np.ndarray, Shares]:
    """The probability of pairs [M] and the weights of each comparison's levels, by expectation and
    maximisation.

    Blocks choose pairs that agree. So what pairs are like that are not one is estimated from random
    pairs, and a pair is one beforehand with the chance of any two rows of the table, not of a
    block: that its block's values agree is evidence which counts in its pattern. Hardly any pair
    outside the blocks is one. A third kind of pairs is related, as those of a household: they agree
    in some columns together and in others no more than any two rows.

    Args:
      levels: of the pairs [M, C].
      random: of random pairs [R, C].
      sizes: levels of each comparison.
      count: rows of the table.
    """
    patterns, of_pair, counts = _patterns(levels)
    others, _, other_counts = _patterns(random)
    pairs = count * (count - 1) / 2
    drawn = [_count(others[:, c], other_counts, size) for c, size in enumerate(sizes)]
    table = _Table(patterns, counts, pairs, [n * (pairs / max(len(random), 1)) for n in drawn])
    apart = [_share(levels) for levels in drawn]
    # Rows that are one mostly agree, related ones half as often.
    same = [np.append(np.full(size - 1, 0.3 / (size - 1)), 0.7) for size in sizes]
    related = [(one + other) / 2 for one, other in zip(same, apart, strict=True)]
    guess, chances = [same, related], np.full(2, (count + PRIOR) / (2 * count + pairs + 2 * PRIOR))
    kinds, posterior = table.fit(guess, guess, apart, chances)
    if not _are_others(kinds[0], kinds[1], apart):  # those that are one with more errors
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
      patterns: levels of those of the blocks [P, C].
      counts: how often each comes [P].
      pairs: how many there are of all rows.
      levels: how often each level of each comparison comes in all pairs, about.
    """

    patterns: np.ndarray
    counts: np.ndarray
    pairs: float
    levels: Shares

    def share(self, posterior: np.ndarray) -> np.ndarray:
        """The share [K] of each kind but the last among all pairs, given the probability [K + 1, P]
        that pairs of a pattern are of each.
        """
        return (posterior[:-1] @ self.counts + PRIOR) / (self.pairs + 2 * PRIOR)

    def count_levels(self, posterior: np.ndarray) -> list[Shares]:
        """How often each level comes in pairs of each kind but the last."""
        columns = [*zip(self.patterns.T, self.levels, strict=True)]
        return [
            [_count(levels, self.counts * one, len(every)) for levels, every in columns]
            for one in posterior[:-1]
        ]

    def kinds(self, posterior: np.ndarray, guess: list[Shares]) -> list[Shares]:
        """How likely each level is in pairs of each kind but the last, which has no guess."""
        return [
            [_share(found, levels) for found, levels in zip(kind, guessed, strict=True)]
            for kind, guessed in zip(self.count_levels(posterior), guess, strict=True)
        ]

    def subtract(self, posterior: np.ndarray) -> Shares:
        """How likely each level is in pairs of the last kind: what the others leave of all pairs.
        In a small table they are many among those.
        """
        found = [sum(column) for column in zip(*self.count_levels(posterior), strict=True)]
        rest = zip(self.levels, found, strict=True)
        return [_share(np.maximum(every - some, 0)) for every, some in rest]

    def fit(
        self, guess: list[Shares], kinds: list[Shares], apart: Shares, chances: np.ndarray
    ) -> tuple[list[Shares], np.ndarray]:
        """How likely each level is in pairs of each kind, and the probability [K + 1, P] that pairs
        of a pattern are of each, the last of which is of rows that have nothing to do with each
        other.

        Args:
          guess: what the kinds are like beforehand.
          kinds: where it begins.
          apart: how likely each level is in pairs of the last kind.
          chances: of the kinds beforehand, where it begins.
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
    """Whether related pairs are not one: columns that give much of the evidence for it agree in
    them by chance, as the first names and dates of birth of a household. Errors spare more.
    """
    bits = [
        (_divergence(one, none), _divergence(some, none))
        for one, some, none in zip(same, related, apart, strict=True)
    ]
    by_chance = sum(one for one, some in bits if some < CHANCE * one)
    return by_chance > MUCH * sum(one for one, _ in bits)


def _divergence(one: np.ndarray, other: np.ndarray) -> float:
    """In bits."""
    return float(np.sum(one * np.log2(one / other)))


def join_codes(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One code [N] of several, in their order."""
    joint = np.zeros(len(parts[0]), np.int64)
    for part in parts:
        joint = np.unique(joint * (int(part.max(initial=0)) + 1) + part, return_inverse=True)[1]
    return joint


def _patterns(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different rows [P, C] of levels [M, C], which of them each is [M], and how often
    each comes [P].
    """
    joint = join_codes(list(levels.T + 1))
    _, first, inverse, counts = np.unique(
        joint, return_index=True, return_inverse=True, return_counts=True
    )
    return levels[first], inverse, counts


def _count(levels: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """The weight of each level [size]; a missing value is none."""
    there = levels != MISSING
    return np.bincount(levels[there], weights[there], size)


def _share(counts: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
    """The share of each level, of which as many pairs as there are levels are as guessed, or else
    spread evenly.
    """
    prior = PRIOR if guess is None else PRIOR * len(counts) * guess
    return (counts + prior) / (counts + prior).sum()


def _posterior(patterns: np.ndarray, kinds: Sequence[Shares], chances: np.ndarray) -> np.ndarray:
    """The probability [K, P] that pairs of these patterns [P, C] are of each kind.

    Args:
      kinds: how likely each level of each comparison is in pairs of the kind.
      chances: of all kinds but the last beforehand.
    """
    others = max(1 - chances.sum(), np.finfo(float).tiny)
    total = np.log(np.append(chances, others))[:, None] + np.zeros(len(patterns))
    for row, kind in zip(total, kinds, strict=True):
        for levels, shares in zip(patterns.T, kind, strict=True):
            row += np.where(levels == MISSING, 0.0, np.log(shares)[levels])
    return softmax(total, axis=0)
