"""Distances to training records by hand, and copies counted."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import norm

from genjax import parallel
from genjax.errors import UserError
from genjax.evaluation.tables.privacy import (
    TabularPrivacy,
    attack_membership,
    compute_coordinates,
    compute_copied_share,
    compute_diversity,
)
from genjax.parallel import Devices
from tests.evaluation.tables import CODEC, FAMILY, SPEC, columns, drawn, table_subject

NAN = float("nan")


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def test_distances_count_deviations_and_differing_categories():
    train = columns(
        [0, 2, NAN], ["a", "b", None], [10, 10, 10]
    )  # the mass has mean 1 and deviation 1, the age 0
    known = compute_coordinates(CODEC, train, train)
    rows = columns([0, 3, NAN, NAN], ["a", "b", None, "a"], [12, 10, 10, 10])
    apart = np.linalg.norm(compute_coordinates(CODEC, rows, train)[:, None] - known[None], axis=-1)
    np.testing.assert_allclose(
        apart[0, 0], 2, rtol=1e-6
    )  # an age that did not vary counts as it is
    np.testing.assert_allclose(apart[1], [np.sqrt(9 + 1), 1, np.sqrt(4 + 1 + 1)], rtol=1e-6)
    np.testing.assert_allclose(apart[2, 2], 0)
    np.testing.assert_allclose(apart[3, 2], 1, rtol=1e-6)


def test_copies_equal_a_record_as_it_is_written():
    train = columns([1, NAN], ["a", None], [2, 3])
    rows = columns([1.0004, NAN, NAN, 1, 1], ["a", None, "a", "b", "a"], [2, 3, 3, 2, 2.002])
    assert compute_copied_share(CODEC, rows, train) == 2 / 5


def test_the_attack_on_known_distances():
    """Members at 1, 2, 3 and others at 2, 4, 6 from the only sample: of nine pairs a member is
    nearer in seven, as near in one and farther in one; below 3 lie all members and one other.
    """
    found = attack_membership(*(np.array(x, float)[:, None] for x in ([0], [1, 2, 3], [2, 4, 6])))
    np.testing.assert_allclose(found["membership_auc"], 7.5 / 9)
    np.testing.assert_allclose(found["membership_advantage"], 2 / 3)


@pytest.mark.parametrize(
    "members, others, auc, advantage",
    [([1, 2], [3, 4], 1, 1), ([3, 4], [1, 2], 0, 0), ([1, 2], [1, 2], 0.5, 0), ([5], [5], 0.5, 0)],
)
def test_the_attack_at_its_ends(members, others, auc, advantage):
    found = attack_membership(*(np.array(x, float)[:, None] for x in ([0], members, others)))
    assert found == {"membership_auc": auc, "membership_advantage": advantage}


def test_the_attack_on_normal_distances_is_that_of_two_normal_curves():
    """Distances normal with deviation 1 and means one apart: an area of Phi(1 / sqrt(2)), and a
    largest difference of 2 Phi(1 / 2) - 1.
    """
    draw = np.random.default_rng(0)
    members, others = (draw.normal(mean, 1, (20_000, 1)) for mean in (20.0, 21.0))
    found = attack_membership(np.zeros((1, 1)), members, others)
    np.testing.assert_allclose(found["membership_auc"], norm.cdf(0.5**0.5), atol=0.01)
    np.testing.assert_allclose(found["membership_advantage"], 2 * norm.cdf(0.5) - 1, atol=0.015)


def test_diversity_is_the_ratio_of_distances_to_the_nearest_other():
    grid = np.arange(10.0)[:, None]
    assert compute_diversity(grid, grid) == 1
    np.testing.assert_allclose(compute_diversity(0.25 * grid, grid), 0.25, rtol=1e-6)
    assert compute_diversity(np.repeat(grid[:5], 2, axis=0), grid) == 0
    assert compute_diversity(grid[:1], grid) == 1  # a single row has no other


def test_distances_to_the_nearest_record_by_hand(layout):
    train = columns([0, 0, 0], ["a", "a", "b"], [1, 3, 2])  # ages have the deviation sqrt(2/3)
    test = columns([0, 0], ["a", "b"], [2, 2])  # 1 from the b, and a copy of it
    samples = columns([0, 0], ["a", "a"], [3.5 * np.sqrt(2 / 3) + 3, 1])
    numbers = TabularPrivacy(2)(table_subject(layout, samples, train=train, test=test)).numbers
    np.testing.assert_allclose(numbers["nearest_record"], 3.5 / 2, rtol=1e-3)
    np.testing.assert_allclose(numbers["nearest_record_held_out"], (1 + 0) / 2, rtol=1e-3)
    np.testing.assert_allclose(numbers["copies_held_out"], 0.5)


def test_a_thief_is_told_from_an_honest_generator(layout):
    train, test = drawn(300, 0), drawn(300, 1)
    honest = TabularPrivacy(300)(
        table_subject(layout, drawn(300, 2), train=train, test=test)
    ).numbers
    thief = TabularPrivacy(300)(table_subject(layout, train, train=train, test=test)).numbers
    assert (
        0.8 < honest["nearest_record_ratio"] < 1.25
        and honest["copies"] == honest["copies_held_out"] == 0
    )
    assert (
        thief["copies"] == 1
        and thief["nearest_record"] < 1e-5
        and thief["nearest_record_ratio"] < 1e-3
    )
    assert thief["nearest_record_held_out"] == honest["nearest_record_held_out"] > 0.01


def test_a_few_stolen_records_show_in_the_lowest_distances(layout):
    train, test, samples = drawn(300, 0), drawn(300, 1), drawn(300, 2)
    for name, values in samples.items():
        values[:20] = train[name][:20]
    numbers = TabularPrivacy(300)(table_subject(layout, samples, train=train, test=test)).numbers
    np.testing.assert_allclose(numbers["copies"], 20 / 300)
    assert numbers["nearest_record_ratio_low"] < 1e-3 and numbers["nearest_record_ratio"] > 0.7


def test_privacy_needs_rows_that_were_not_trained_on(layout):
    rows = drawn(20, 0)
    on = dataclasses.replace(table_subject(layout, rows, train=rows, test=rows), split="train")
    assert TabularPrivacy()(on).remarks == ("privacy needs a split that was not trained on",)
    for fields in ({"samples": 0}, {"limit": 0}):
        with pytest.raises(UserError, match=f"^{next(iter(fields))} must be"):
            TabularPrivacy(**fields)
    TabularPrivacy().check(FAMILY, SPEC, {})
