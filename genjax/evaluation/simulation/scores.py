"""Scores of ensembles: CRPS, ranks, and spread over error."""

from __future__ import annotations

import numpy as np
from scipy.stats import chisquare


def compute_fair_crps(members: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the fair CRPS [...] of ensembles [M, ...] of at least 2 for outcomes [...].

    Its mean does not depend on the number of members if these are exchangeable draws (Ferro,
    Quarterly Journal of the Royal Meteorological Society 140, 2014).
    """
    count = len(members)
    error = np.abs(members - truth).mean(0)
    # The sum of |x_i - x_j| over pairs i < j, from sorted values.
    weights = 2 * np.arange(1, count + 1) - count - 1
    ordered = np.sort(members, 0)
    pairs = (weights.reshape(-1, *[1] * truth.ndim) * ordered).sum(0)
    return error - pairs / (count * (count - 1))


def count_ranks(members: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count how often the outcome [...] has each rank among M members [M, ...]: int [M + 1]."""
    ranks = (members < truth).sum(0)
    return np.bincount(ranks.ravel(), minlength=len(members) + 1)


def find_p_of_flatness(ranks: np.ndarray) -> float:
    """Return the p-value of a chi-square test that ranks, by counts [R], are uniform."""
    return float(chisquare(ranks).pvalue)


def compute_spread_ratio(members: np.ndarray, truth: np.ndarray) -> float:
    """Return the spread of ensembles [M, ...] over the error of their mean; 1 if calibrated.

    Both are root mean squares, corrected for the number of members (Fortin et al., Journal of
    Hydrometeorology 15, 2014).
    """
    count = len(members)
    error = np.square(members.mean(0) - truth).mean()
    spread = members.var(0, ddof=1).mean()
    return float(np.sqrt((count + 1) / count * spread / error))
