"""Combine two rankings into one.

Weighted z-scores are the default: on Cranfield, reciprocal ranks of BM25 and a weak encoder are
worse than BM25 alone, but weighted z-scores are better (see docs/search.md for figures).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from genjax import checks


class Fusion(Protocol):
    """Combines the scores of one query."""

    def __call__(
        self, vector: Mapping[str, float], keyword: Mapping[str, float]
    ) -> dict[str, float]:
        """Return a score for each id in either ranking, the higher the better."""


@checks.frozen
class ZScores:
    """Adds the z-scores of both sides: each score minus the mean, over the standard deviation.

    Both are taken over all candidates. A candidate without a score on one side gets the lowest of
    that side; but if fewer candidates have a keyword score than a vector score, the others share no
    word and count 0.

    Attributes:
      vector: the weight of the vectors' side.
      keyword: the weight of the keywords' side.
    """

    vector: float = 0.5
    keyword: float = 1.0

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "vector", "keyword")

    def __call__(
        self, vector: Mapping[str, float], keyword: Mapping[str, float]
    ) -> dict[str, float]:
        ids = sorted({*vector, *keyword})
        all_known = len(keyword) < len(vector)
        lowest = 0.0 if all_known else min(keyword.values(), default=0.0)
        total = np.zeros(len(ids))
        for weight, scores, fill in (
            (self.vector, vector, min(vector.values(), default=0.0)),
            (self.keyword, keyword, lowest),
        ):
            filled = np.array([scores.get(name, fill) for name in ids])
            spread = filled.std() if len(ids) else 0.0
            if spread > 1e-9:  # otherwise all scores are equal
                total += weight * (filled - filled.mean()) / spread
        return dict(zip(ids, total.tolist(), strict=True))


@checks.frozen
class ReciprocalRanks:
    """Adds 1 / (constant + rank) of both sides (Cormack, Clarke and Buettcher, SIGIR 2009).

    Equal scores share the best of their ranks.

    Attributes:
      constant: added to each rank, which starts at 1.
    """

    constant: float = 60.0

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "constant")

    def __call__(
        self, vector: Mapping[str, float], keyword: Mapping[str, float]
    ) -> dict[str, float]:
        total = dict.fromkeys(sorted({*vector, *keyword}), 0.0)
        for scores in (vector, keyword):
            ordered = sorted(scores.values(), reverse=True)
            ranks = {score: rank for rank, score in reversed(list(enumerate(ordered, 1)))}
            for name, score in scores.items():
                total[name] += 1 / (self.constant + ranks[score])
        return total
