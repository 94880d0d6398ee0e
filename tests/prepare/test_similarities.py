"""How alike two values are, beside published examples and definitions."""

import numpy as np
import pyarrow as pa
import pytest

from genjax.errors import UserError
from genjax.prepare.matching import similarities


def of(similarity, *pairs):
    sides = (pa.array([pair[i] for pair in pairs], pa.large_string()) for i in range(2))
    return similarities.SIMILARITIES[similarity](*sides)


def test_jaro_winkler_is_that_of_its_paper():
    found = of(
        "jaro_winkler",
        ("martha", "marhta"),
        ("dwayne", "duane"),
        ("dixon", "dicksonx"),
        ("abc", "xyz"),
    )
    np.testing.assert_allclose(found, [0.9611, 0.84, 0.8133, 0], atol=5e-5)


def test_exact_is_all_or_nothing():
    assert of("exact", ("a", "a"), ("a", "b")).tolist() == [1, 0]


def test_edits_are_a_share_of_the_longer_one():
    found = of(
        "edits", ("1234567", "1234567"), ("1234567", "1235467"), ("12", "1234"), ("ab", "cd")
    )
    np.testing.assert_allclose(found, [1, 6 / 7, 1 / 2, 0])


def test_a_date_with_day_and_month_swapped_is_one_edit_away():
    pairs = [
        ("19831024", "1983-10-24"),
        ("19830412", "19831204"),
        ("19830412", "19830413"),
        ("19830412", "19831205"),
        ("1983", "1984"),
        ("unknown", "19830412"),
        ("?", "-"),
    ]
    np.testing.assert_allclose(of("dates", *pairs), [1, 7 / 8, 7 / 8, 6 / 8, 3 / 4, 0, 1])


def test_numbers_are_as_alike_as_their_difference_is_small():
    found = of("numbers", ("10", "10.0"), ("10", "9"), ("0", "0"), ("-5", "5"), ("0", "3"))
    np.testing.assert_allclose(found, [1, 0.9, 1, 0, 0])
    with pytest.raises(UserError, match="must be numbers .*'ten'"):
        of("numbers", ("ten", "10"))


def test_soundex_is_that_of_the_archives():
    names = pa.array(
        ["robert", "Rupert", "ashcraft", "tymczak", "pfister", "12", ""], pa.large_string()
    )
    assert similarities.soundex(names).to_pylist() == [
        "R163",
        "R163",
        "A261",
        "T522",
        "P236",
        "12",
        "",
    ]


@pytest.mark.parametrize("similarity", similarities.SIMILARITIES)
def test_no_pairs_are_fine_and_equal_values_agree_best(similarity):
    assert of(similarity).shape == (0,)
    assert of(similarity, ("19700101", "19700101")).tolist() == [1]
