"""Measures whether each column of samples is distributed as in the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax import checks
from genjax.data.dataset import Spec
from genjax.data.tables.pictures import marginals
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.tables.rows import (
    check_table,
    column_label,
    data_columns,
    encode_categories,
    sample_columns,
)
from genjax.family import Family


@checks.frozen
class TabularMarginals(Evaluator):
    """Measures the distance of each column of samples from that of the evaluated split, from 0 to
    1.

    ``ks_<column>`` is the Kolmogorov-Smirnov distance of numbers, the largest difference of the two
    distribution functions, with missing numbers below all others. ``tv_<column>`` is the total
    variation distance of categories, half the sum of the absolute differences of their shares,
    where missing is a category. ``marginal_distance`` is the mean over columns,
    ``marginal_distance_train`` the same for the training rows, which shows the noise due to the
    size of the split.

    Attributes:
      samples: number of samples.
    """

    samples: int = 2000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_table(type(self).__name__, family, spec)

    def __call__(self, subject: Subject) -> Findings:
        data, samples = data_columns(subject, subject.split), sample_columns(subject, self.samples)
        distances = compute_column_distances(samples, data)
        usual = compute_column_distances(data_columns(subject, "train"), data)
        numbers = {
            "marginal_distance": float(np.mean(list(distances.values()))),
            "marginal_distance_train": float(np.mean(list(usual.values()))),
        }
        rows = len(next(iter(data.values())))
        return Findings(
            numbers | distances,
            {"marginals": marginals({subject.split: data, "samples": samples})},
            f"{self.samples:,} samples by {subject.model.family.sampler}, {rows:,} rows of "
            f"{subject.split}",
        )


def compute_column_distances(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Compute ``ks_<column>`` and ``tv_<column>`` of two tables with the same columns."""
    found = {}
    for name, values in a.items():
        if values.dtype.kind == "f":
            found[f"ks_{column_label(name)}"] = kolmogorov_smirnov(values, b[name])
        else:
            found[f"tv_{column_label(name)}"] = total_variation(
                encode_categories(values), encode_categories(b[name])
            )
    return found


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the largest difference of the distribution functions of numbers [N] and [M]; NaN is
    below all.
    """
    a, b = (np.sort(np.where(np.isnan(x), -np.inf, x)) for x in (a, b))
    at = np.concatenate([a, b])
    return float(
        np.abs(
            np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)
        ).max()
    )


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Compute half the sum of the absolute differences of the shares of each value, of strings [N]
    and [M].
    """
    values = np.unique(np.concatenate([a, b]))
    shares = [
        np.bincount(np.searchsorted(values, x), minlength=len(values)) / len(x) for x in (a, b)
    ]
    return float(0.5 * np.abs(shares[0] - shares[1]).sum())
