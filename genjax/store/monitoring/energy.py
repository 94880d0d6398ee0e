"""Compare two samples by the energy distance and a permutation test.

The energy distance of samples x and y is 2 E|x - y| - E|x - x'| - E|y - y'| (Székely and Rizzo,
2013), for any distance of negative type: of vectors, of numbers or of labels. It is computed for
the samples as they are and for many that are mixed at random: the share of those at least as large
is the p-value, whatever the distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TIES = 1e-9  # two statistics closer than this share of the largest are equal
SAME = 1e-12  # squared distance up to which two vectors are the same


@dataclass(frozen=True)
class Compared:
    """Two samples after a test.

    Attributes:
      p: p-value; draws that equal the observed one count half.
      coefficient: energy distance over its largest possible value, from 0 (equal) to 1.
      moved: for each item of the second sample, how much nearer it is to its own sample than to the
        first one, [M].
    """

    p: float
    coefficient: float
    moved: np.ndarray


def draw_signs(first: int, second: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the observed split and random ones as weights [N, 1 + count]: 1 / first of an item of
    the first sample, -1 / second of one of the second.
    """
    total = first + second
    weights = np.where(np.arange(total) < first, 1 / first, -1 / second)
    mixed = rng.permuted(np.broadcast_to(weights, (count, total)), axis=1)
    return np.concatenate([weights[None], mixed]).T


def compare_vectors(vectors: np.ndarray, signs: np.ndarray) -> Compared:
    """Test whether vectors [N, D], those of the first sample first, have one distribution.

    Args:
      vectors: vectors, compared by Euclidean distance.
      signs: see ``draw_signs``.
    """
    wide = vectors.astype(np.float64)
    squares = np.einsum("nd,nd->n", wide, wide)
    found = squares[:, None] + squares[None] - 2 * wide @ wide.T
    distances = np.sqrt(np.where(found > SAME, found, 0))
    return _finish(distances, signs, -np.einsum("nb,nb->b", signs, distances @ signs))


def compare_numbers(values: np.ndarray, signs: np.ndarray) -> Compared:
    """Test whether numbers [N] have one distribution: the distance is the squared area between
    their distribution functions.
    """
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    between = np.cumsum(signs[order], axis=0)[:-1]
    distances = np.abs(values[:, None] - values[None])
    return _finish(distances, signs, 2 * np.einsum("n,nb,nb->b", gaps, between, between))


def compare_sets(members: np.ndarray, signs: np.ndarray) -> Compared:
    """Test whether sets, given as 0 and 1 [N, K], have one distribution: the distance is the sum of
    the squared differences of the shares of their members, each over its variance in both samples,
    as in a chi-squared test, so that a rare member counts as much as a frequent one.
    """
    shares = members.mean(0)
    variances = shares * (1 - shares)
    wide = members / np.sqrt(np.where(variances > SAME, variances, np.inf))
    squares = np.einsum("nk,nk->n", wide, wide)
    found = squares[:, None] + squares[None] - 2 * wide @ wide.T
    distances = np.where(found > SAME, found, 0)
    shares = wide.T @ signs
    return _finish(distances, signs, 2 * np.einsum("kb,kb->b", shares, shares))


def _finish(distances: np.ndarray, signs: np.ndarray, values: np.ndarray) -> Compared:
    if not distances.any():  # one value only: there is nothing to tell apart
        return Compared(1.0, 0.0, np.zeros(np.count_nonzero(signs[:, 0] < 0)))
    observed, drawn = values[0], values[1:]
    ties = TIES * float(np.abs(values).max(initial=0.0))
    above = np.count_nonzero(drawn > observed + ties)
    equal = np.count_nonzero(np.abs(drawn - observed) <= ties)
    first = signs[:, 0] > 0
    across = float(distances[first][:, ~first].mean())
    return Compared(
        float((1 + above + 0.5 * equal) / (1 + len(drawn))),
        min(max(float(observed) / (2 * across), 0.0), 1.0) if across > 0 else 0.0,
        distances[~first] @ signs[:, 0],
    )


def adjust_holm(p: np.ndarray) -> np.ndarray:
    """Return p-values that, compared with a level, keep the chance of any false alarm among all
    tests below it, however they depend on each other (Holm, 1979).
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    found = np.empty(len(p))
    found[order] = np.minimum(steps, 1.0)
    return found


def adjust_fdr(p: np.ndarray) -> np.ndarray:
    """Return p-values that, compared with a level, keep the expected share of false alarms among
    the alarms below it, for tests that do not work against each other (Benjamini and Hochberg,
    1995).
    """
    order = np.argsort(p, kind="stable")[::-1]
    steps = np.minimum.accumulate(p[order] * len(p) / (len(p) - np.arange(len(p))))
    found = np.empty(len(p))
    found[order] = np.minimum(steps, 1.0)
    return found
