"""Associations of columns against numpy, scipy and closed forms."""

import numpy as np
import pytest
from scipy import stats

from genjax import parallel
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.tables.correlations import (
    TabularCorrelations,
    compute_association,
    compute_associations,
    correlation_ratio,
)
from genjax.parallel import Devices
from tests.evaluation.tables import FAMILY, SPEC, columns, drawn, table_subject


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def test_two_columns_of_numbers_have_pearsons_correlation():
    draw = np.random.default_rng(0)
    a = draw.normal(size=50)
    b = a + draw.normal(size=50)
    np.testing.assert_allclose(compute_association(a, b), np.corrcoef(a, b)[0, 1])
    gaps = np.where(np.arange(50) < 10, np.nan, b)
    np.testing.assert_allclose(compute_association(a, gaps), np.corrcoef(a[10:], b[10:])[0, 1])


def test_two_columns_of_categories_have_cramers_v_of_scipy():
    draw = np.random.default_rng(1)
    a = draw.integers(0, 3, 200)
    b = np.where(draw.uniform(size=200) < 0.4, a, draw.integers(0, 4, 200))
    table = stats.contingency.crosstab(a, b).count
    expected = stats.contingency.association(table, method="cramer")
    np.testing.assert_allclose(compute_association(a.astype(str), b.astype(str)), expected)
    np.testing.assert_allclose(compute_association(a.astype(str), (2 - a).astype(str)), 1)


def test_a_number_and_a_category_have_the_correlation_ratio():
    """Groups at -1 and 1 with a spread of s: the share of the variance between them is 1 / (1
    + s^2).
    """
    numbers = np.array([-1.5, -0.5, 0.5, 1.5] * 10)
    words = np.array(["l", "l", "r", "r"] * 10)
    np.testing.assert_allclose(correlation_ratio(numbers, words), np.sqrt(1 / 1.25))
    np.testing.assert_allclose(
        compute_association(words, numbers), compute_association(numbers, words)
    )
    f = stats.f_oneway(numbers[words == "l"], numbers[words == "r"]).statistic
    np.testing.assert_allclose(correlation_ratio(numbers, words) ** 2, f / (f + 38))


def test_what_does_not_vary_hangs_together_with_nothing():
    assert (
        compute_association(np.ones(9), np.arange(9.0)) == 0
        and compute_association(np.array(["a"] * 9), np.arange(9.0)) == 0
    )
    assert compute_association(np.full(9, np.nan), np.arange(9.0)) == 0


def test_shuffled_columns_lose_what_they_had_in_common(layout):
    test = drawn(1000, 0)
    shuffled = test | {"age": np.random.default_rng(5).permutation(test["age"])}
    numbers = TabularCorrelations(1000)(
        table_subject(layout, shuffled, train=drawn(1000, 1), test=test)
    ).numbers
    true = compute_associations(test)
    lost = np.abs(compute_associations(shuffled) - true)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(
        numbers["correlation_difference"], lost.mean(), atol=1e-4
    )  # three decimals are kept
    np.testing.assert_allclose(numbers["correlation_difference_max"], lost.max(), atol=1e-4)
    assert true[1, 2] > 0.97 and numbers["correlation_difference_max"] > 0.9
    assert numbers["correlation_difference_train"] < 0.05


def test_the_same_rows_differ_in_nothing(layout):
    rows = columns([0, 1, float("nan"), 3], ["a", "a", "b", None], [1, 2, 3, 5])
    found = TabularCorrelations(4)(table_subject(layout, rows, train=rows, test=rows))
    np.testing.assert_allclose(list(found.numbers.values()), 0, atol=1e-6)
    assert found.pictures["correlations"].shape[-1] == 3


def test_pairs_are_needed():
    with pytest.raises(UserError, match="a table with at least 2 columns"):
        TabularCorrelations().check(
            FAMILY, Spec("table", (3,), np.zeros(3, np.float32), categories=(3,)), {}
        )
    with pytest.raises(UserError, match="needs a table, but the data are image"):
        TabularCorrelations().check(FAMILY, Spec("image", (2, 2, 1), np.zeros((2, 2, 1))), {})
    with pytest.raises(UserError, match="samples must be at least 2, got 1"):
        TabularCorrelations(1)
    TabularCorrelations().check(FAMILY, SPEC, {})
