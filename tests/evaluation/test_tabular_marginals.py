"""Distances of columns against scipy and closed forms."""

import numpy as np
import pytest
from scipy import stats

from genjax import parallel
from genjax.data.sources import Points
from genjax.errors import UserError
from genjax.evaluation.tables.marginals import TabularMarginals, kolmogorov_smirnov, total_variation
from genjax.evaluation.tables.rows import column_label, encode_categories
from genjax.families.classifier import Classifier
from genjax.nets.mlp import MLPBackbone
from genjax.parallel import Devices
from tests.evaluation.tables import FAMILY, SPEC, columns, drawn, table_subject

NAN = float("nan")


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def test_the_distance_of_numbers_is_that_of_scipy():
    draw = np.random.default_rng(0)
    for _ in range(5):
        a, b = (
            np.round(draw.normal(size=30), 1),
            np.round(draw.normal(0.5, 2, size=47), 1),
        )  # with ties
        np.testing.assert_allclose(kolmogorov_smirnov(a, b), stats.ks_2samp(a, b).statistic)


def test_missing_numbers_count_as_less_than_all_others():
    a, b = np.array([1.0, 2, 3, 4]), np.array([NAN, 2, 3, 4])
    assert kolmogorov_smirnov(a, b) == 0.25 and kolmogorov_smirnov(b, b) == 0
    assert kolmogorov_smirnov(np.full(3, NAN), a) == 1


def test_the_total_variation_is_half_the_sum_of_the_differences():
    a, b = (
        encode_categories(np.array(["x", "x", "y", None], object)),
        encode_categories(np.array(["x", "z"], object)),
    )
    np.testing.assert_allclose(total_variation(a, b), 0.5 * (0 + 0.25 + 0.25 + 0.5))
    assert (
        total_variation(a, a) == 0
        and total_variation(encode_categories(np.array(["(missing)", "x"])), a) > 0.25
    )


def test_each_column_has_its_distance_and_the_mean_is_theirs(layout):
    test = columns([0, 1, NAN, 3], ["a", "a", "b", None], [1, 2, 3, 4])
    samples = columns([0, 1, 2, 3], ["a", "b", "b", "b"], [5, 6, 7, 8])
    found = TabularMarginals(4)(table_subject(layout, samples, train=test, test=test))
    assert found.numbers == {
        "marginal_distance": (0.25 + 0.5 + 1) / 3,
        "marginal_distance_train": 0.0,
        "ks_body_mass": 0.25,
        "tv_kind": 0.5,
        "ks_age": 1.0,
    }
    assert (
        found.pictures["marginals"].dtype == np.uint8 and found.pictures["marginals"].shape[-1] == 3
    )
    assert "4 samples by" in found.protocol and "4 rows of test" in found.protocol


def test_fresh_rows_are_as_far_as_the_training_rows(layout):
    on = table_subject(layout, drawn(2000, 0), train=drawn(2000, 1), test=drawn(2000, 2))
    numbers = TabularMarginals(2000)(on).numbers
    assert numbers["marginal_distance"] < 0.04 and numbers["marginal_distance_train"] < 0.04


def test_only_tables_and_families_with_samples_are_judged():
    with pytest.raises(UserError, match="TabularMarginals needs a table, but the data are points"):
        TabularMarginals().check(FAMILY, Points(size=5, test_size=5).open().spec, {})
    with pytest.raises(
        UserError, match="TabularMarginals needs samples, but a classifier draws no samples"
    ):
        TabularMarginals().check(Classifier(MLPBackbone((4,))), SPEC, {})
    with pytest.raises(UserError, match="samples must be at least 1, got 0"):
        TabularMarginals(0)
    TabularMarginals().check(FAMILY, SPEC, {})
    assert column_label("mean  radius") == "mean_radius"
