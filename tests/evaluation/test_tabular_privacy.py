"""Distances to training records by hand, and copies counted."""

import dataclasses

import numpy as np
import pytest

from genjax import parallel
from genjax.errors import UserError
from genjax.evaluation.tables.privacy import (
    TabularPrivacy,
    compute_coordinates,
    compute_copied_share,
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
