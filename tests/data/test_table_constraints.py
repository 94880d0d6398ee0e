"""Quantile columns, conditions and constraints of tables, and tables with empty cells."""

import numpy as np
import pytest
from scipy.special import ndtri

from genjax.data.sources import Table
from genjax.data.tables.conditions import parse_condition
from genjax.data.tables.gaps import read_gaps
from genjax.data.tables.quantiles import fit_quantiles
from genjax.errors import UserError

COLUMNS = {
    "age": np.array([20.0, 40, 60, np.nan]),
    "job-title": np.array([" Chef", " Cook", None, " Chef"], object),
}
VALUES = {"age": None, "job-title": (" Chef", " Cook")}


def test_a_step_is_encoded_at_its_middle_and_decoded_whole():
    column = fit_quantiles("gain", np.array([0.0] * 8 + [1, 2]), 0)
    z, mode = column.encode(np.array([0.0, 1, 2]))
    middles = ndtri([0.4, 0.85, 0.95])
    np.testing.assert_allclose(z * column.scale + column.centre, middles, rtol=1e-5)
    assert mode.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(column.decode(z, mode), [0, 1, 2])
    inside = (ndtri([0.01, 0.79, 0.81, 0.89, 0.91]) - column.centre) / column.scale
    np.testing.assert_array_equal(column.decode(inside, np.zeros(5, int)), [0, 0, 1, 1, 2])


def test_many_numbers_become_normal_and_come_back():
    values = np.random.default_rng(0).lognormal(size=5000)
    values[7] = np.nan
    column = fit_quantiles("size", values, None)
    z, mode = column.encode(values)
    known = np.delete(z, 7)
    np.testing.assert_allclose([known.mean(), known.std()], [0, 1], atol=1e-3)
    np.testing.assert_allclose((known**4).mean(), 3, atol=0.1)  # as a normal one
    again = column.decode(z, mode)
    assert np.isnan(again[7]) and mode.sum() == 1
    middle = (values > np.nanquantile(values, 0.01)) & (values < np.nanquantile(values, 0.99))
    np.testing.assert_allclose(again[middle], values[middle], rtol=1e-3)


@pytest.mark.parametrize(
    "text, rows",
    [
        ("age>=40", [0, 1, 1, 0]),
        ("age in [20, 40]", [1, 1, 0, 0]),
        ("age in (20, 60)", [1, 0, 1, 0]),
        ("job-title='Chef' and age<30", [1, 0, 0, 0]),
        ('"job-title" != Chef', [0, 1, 0, 0]),
        ("job-title not in ('Cook')", [1, 0, 0, 1]),
    ],
)
def test_a_condition_holds_where_it_says(text, rows):
    found = parse_condition(text, VALUES, "where").holds(COLUMNS)
    np.testing.assert_array_equal(found, np.array(rows, bool))


@pytest.mark.parametrize(
    "text, near",
    [
        ("aeg>3", "'age'"),
        ("job-title='Chief'", "'Chef'"),
        ("age='x'", "numbers"),
        ("job-title>3", "categories"),
        ("age in [3]", r"\[low, high\]"),
        ("age", "comparisons"),
    ],
)
def test_a_wrong_condition_names_what_is_near(text, near):
    with pytest.raises(UserError, match=near) as caught:
        parse_condition(text, VALUES, "where")
    assert caught.value.field == "where"


@pytest.fixture
def wages(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["net,tax,gross,grade"]
    for _ in range(60):
        net, tax = rng.integers(10, 90), rng.integers(1, 20)
        lines.append(f"{net},{tax},{net + tax},{'high' if net > 50 else 'low'}")
    (tmp_path / "wages.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def wages_table(folder, *constraints):
    return Table(
        "wages.csv",
        root=str(folder),
        target="grade",
        normalise="quantiles",
        constraints=constraints,
    )


KEPT = ("net + tax = gross", "if grade='high' then net>50", "tax in [1, 20]")


def test_totals_are_added_up_and_other_rules_are_told(wages):
    codec = wages_table(wages, *KEPT).open().codec
    assert [column.name for column in codec.numbers] == ["net", "tax"]
    width = 2 + sum(codec.sizes)
    rows = np.random.default_rng(1).normal(size=(200, width)).astype(np.float32)
    columns = codec.decode(rows)
    np.testing.assert_array_equal(columns["gross"], columns["net"] + columns["tax"])
    kept = ~((columns["grade"] == "high") & (columns["net"] <= 50))
    np.testing.assert_array_equal(codec.accept(rows), kept)
    assert 0 < kept.sum() < 200
    assert list(codec.format(columns)) == ["net", "tax", "gross", "grade"]


@pytest.mark.parametrize(
    "constraint, message",
    [
        ("net + tax = net", "differ"),
        ("net + grade = gross", "numbers"),
        ("if net>50 then grade='low'", r"does not hold in \d+ of 60 rows"),
        ("net > 80", r"does not hold in \d+ of 60 rows"),
        ("tax + gross = net", r"does not hold in 60 of 60 rows"),
        ("if net>50", "then"),
        ("nte > 5", "'net'"),
    ],
)
def test_a_constraint_that_the_rows_break_is_refused_with_counts(wages, constraint, message):
    with pytest.raises(UserError, match=message) as caught:
        wages_table(wages, constraint).open()
    assert caught.value.field == "constraints"


def test_known_cells_come_back_and_a_part_is_what_is_left(wages):
    codec = wages_table(wages, *KEPT).open().codec
    path = wages / "gaps.csv"
    path.write_text("grade,gross,net,tax\nhigh,70,60,\n,,,\nlow,,40.0,3\n", encoding="utf-8")
    gaps = read_gaps(str(path), codec)
    np.testing.assert_array_equal(gaps.known, [[1, 1, 1], [0, 0, 0], [1, 1, 1]])
    samples = np.zeros((3, 2 + sum(codec.sizes)), np.float32)
    lines = gaps.write(samples, codec, wages / "whole").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "grade,gross,net,tax" and lines[1].startswith("high,70,60,")
    assert lines[3].startswith("low,") and lines[3].endswith(",40.0,3")
    assert all(cell for line in lines for cell in line.split(","))
    path.write_text("grade,gross,net,tax\nhigh,70,,\n", encoding="utf-8")
    with pytest.raises(UserError, match="row 1"):
        read_gaps(str(path), codec)
    path.write_text("grade,groß\nhigh,70\n", encoding="utf-8")
    with pytest.raises(UserError, match="gross"):
        read_gaps(str(path), codec)
