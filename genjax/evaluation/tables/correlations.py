"""Measures whether columns are correlated in samples as in the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from genjax import checks
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.tables.rows import (
    check_table,
    data_columns,
    encode_categories,
    sample_columns,
)
from genjax.family import Family


@checks.frozen
class TabularCorrelations(Evaluator):
    """Compares the association of each pair of columns in samples with that in the evaluated split.

    The association of two numeric columns is Pearson's correlation, that of two categorical ones
    Cramér's V, and that of one of each the correlation ratio: the root of the share of the number's
    variance that the categories explain. Rows with a missing number are left out of its pairs; a
    missing category counts as a category.

    Numbers: ``correlation_difference``, the mean absolute difference over all pairs;
    ``correlation_difference_max``; ``correlation_difference_train``, the mean difference for the
    training rows, which is due to chance. A constant column has association 0 with every other:
    ``constant_columns`` counts those constant in the samples only, ``constant_columns_held_out``
    those constant in the split.

    Attributes:
      samples: number of samples.
    """

    samples: int = 2000

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "samples")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        name = type(self).__name__
        check_table(name, family, spec)
        if len(spec.categories or ()) < 2:
            raise UserError(f"{name} needs a table with at least 2 columns")

    def __call__(self, subject: Subject) -> Findings:
        real = data_columns(subject, subject.split)
        drawn = sample_columns(subject, self.samples)
        data, samples = compute_associations(real), compute_associations(drawn)
        train = compute_associations(data_columns(subject, "train"))
        pairs = np.triu_indices(len(data), 1)
        constant = [find_constant(columns) for columns in (real, drawn)]
        apart = np.abs(samples - data)[pairs]
        numbers = {
            "correlation_difference": float(apart.mean()),
            "correlation_difference_max": float(apart.max()),
            "correlation_difference_train": float(np.abs(train - data)[pairs].mean()),
            "constant_columns": float(len(constant[1] - constant[0])),
            "constant_columns_held_out": float(len(constant[0])),
        }
        return Findings(
            numbers,
            {
                "correlations": _picture(
                    {subject.split: data, "samples": samples, "samples - data": samples - data}
                )
            },
            f"{self.samples:,} samples by {subject.model.family.sampler}, the rows of "
            f"{subject.split}",
        )

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        return tuple(
            f"{numbers[name]:.0f} columns of {whose} do not vary: their correlations are undefined "
            "and count as 0"
            for name, whose in (
                ("constant_columns", "the samples"),
                ("constant_columns_held_out", "the split"),
            )
            if numbers.get(name)
        )


def find_constant(columns: Mapping[str, np.ndarray]) -> set[str]:
    """Return the names of the columns [N] with fewer than two distinct known values."""
    return {name for name, x in columns.items() if len(set(x[_is_known(x)].tolist())) < 2}


def compute_associations(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute the association of each pair of columns, [K, K]: 1 with itself, 0 with a constant
    one.
    """
    values = [x if x.dtype.kind == "f" else encode_categories(x) for x in columns.values()]
    found = np.eye(len(values))
    for i, a in enumerate(values):
        for j, b in enumerate(values[:i]):
            found[i, j] = found[j, i] = compute_association(a, b)
    return found


def compute_association(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the association of two columns [N] of numbers, NaN where missing, or of strings."""
    known = _is_known(a) & _is_known(b)
    a, b = a[known], b[known]
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return 0.0
    kinds = a.dtype.kind == "f", b.dtype.kind == "f"
    if all(kinds):
        return float(np.corrcoef(a, b)[0, 1])
    if any(kinds):
        return correlation_ratio(a, b) if kinds[0] else correlation_ratio(b, a)
    return cramers_v(a, b)


def _is_known(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)


def correlation_ratio(numbers: np.ndarray, categories: np.ndarray) -> float:
    """Compute the root of the share of the variance of numbers [N] that is between categories
    [N].
    """
    place = np.unique(categories, return_inverse=True)[1]
    counts = np.bincount(place)
    means = np.bincount(place, numbers) / counts
    between = (counts * np.square(means - numbers.mean())).sum()
    return float(np.sqrt(min(between / np.square(numbers - numbers.mean()).sum(), 1)))


def cramers_v(a: np.ndarray, b: np.ndarray) -> float:
    """Compute Cramér's V of categories [N] and [N] with at least two values each: 0 if independent,
    1 if one determines the other.
    """
    first, second = (np.unique(x, return_inverse=True)[1] for x in (a, b))
    rows, across = first.max() + 1, second.max() + 1
    table = np.bincount(first * across + second, minlength=rows * across).reshape(rows, across)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / len(a)
    chi2 = (np.square(table - expected) / expected).sum()
    return float(np.sqrt(chi2 / (len(a) * (min(rows, across) - 1))))


def _picture(matrices: Mapping[str, np.ndarray]) -> np.ndarray:
    figure = new_figure(4 * len(matrices), 4, dpi=80)
    for i, (name, matrix) in enumerate(matrices.items(), 1):
        axes = figure.add_subplot(1, len(matrices), i)
        axes.set_title(name, fontsize=9)
        shown = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu")
        axes.tick_params(labelsize=7)
        if i == len(matrices):
            figure.colorbar(shown, ax=axes)
    return figure_pixels(figure)
