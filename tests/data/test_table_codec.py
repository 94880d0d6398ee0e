"""Tables as vectors: the mixture by hand, rows that come back exactly, and files in the schema
they came from.
"""

import csv
import json

import numpy as np
import pytest
from scipy import stats

from genjax.config_files import to_json
from genjax.data.tables.codec import CategoryColumn, NumberColumn, TableCodec
from genjax.data.tables.fit import Numbers, decimals, fit_codec, mixture
from genjax.errors import UserError
from genjax.serial.stored import from_json

NUMBERS = NumberColumn("size", (0.25, 0.75), (0.0, 10.0), (1.0, 2.0), missing=True)
WORDS = CategoryColumn("colour", ("blue", "red"), missing=True)


def a_table(rows=200):
    """Two groups of numbers, whole ones among them, with rounding and missing values; and two
    columns of words.
    """
    draw = np.random.default_rng(0)
    group = draw.integers(0, 2, rows)
    price = np.round(draw.normal(10 + 90 * group, 3), 2)
    price[::7] = np.nan
    colour = np.array(["red", "blue", "a, b"], object)[draw.integers(0, 3, rows)]
    colour[::11] = None
    return {
        "price": price,
        "colour": colour,
        "count": draw.integers(-5, 900, rows).astype(np.float64),
        "kind": np.array(["x", "y"], object)[group],
        "exact": draw.normal(size=rows),
    }


def codec_of(columns, modes=3):
    return fit_codec(columns, np.arange(len(columns["price"])), "kind", 0, Numbers(modes))


def test_a_number_is_where_it_lies_in_its_most_probable_mode():
    values = np.linspace(-8, 20, 57)
    within, mode = NUMBERS.encode(values)
    density = np.stack([0.25 * stats.norm(0, 1).pdf(values), 0.75 * stats.norm(10, 2).pdf(values)])
    np.testing.assert_array_equal(mode, density.argmax(0))
    np.testing.assert_allclose(
        within, (values - np.array([0, 10])[mode]) / (4 * np.array([1, 2])[mode]), atol=1e-7
    )
    assert within.dtype == np.float32 and mode.dtype == np.int32 and set(mode) == {0, 1}
    np.testing.assert_allclose(NUMBERS.decode(within, mode), values, atol=1e-5)


def test_a_missing_number_is_a_mode_of_its_own():
    within, mode = NUMBERS.encode(np.array([np.nan, 10.0]))
    assert mode.tolist() == [2, 1] and within.tolist() == [0, 0] and NUMBERS.size == 3
    np.testing.assert_array_equal(NUMBERS.decode(within, mode), [np.nan, 10.0])
    np.testing.assert_array_equal(
        NUMBERS.decode(np.array([np.nan, np.inf, 0.25]), np.array([0, 1, 0])), [np.nan] * 2 + [1]
    )


def test_categories_have_their_places_and_a_missing_one_the_last():
    places = WORDS.encode(np.array(["red", None, "blue"], object))
    assert places.tolist() == [1, 2, 0] and places.dtype == np.int32 and WORDS.size == 3
    assert WORDS.decode(places).tolist() == ["red", None, "blue"]


def test_rows_come_back_exactly():
    columns = a_table()
    codec = codec_of(columns)
    batch = codec.encode(columns)
    assert batch["numeric"].shape == (200, 3) and batch["categorical"].shape == (200, 5)
    assert batch["numeric"].dtype == np.float32 and batch["categorical"].dtype == np.int32
    assert [column.decimals for column in codec.numbers] == [2, 0, None]
    back = codec.decode_columns(batch["numeric"], batch["categorical"])
    assert list(back) == list(columns)
    for name in ("price", "count"):
        np.testing.assert_array_equal(back[name], columns[name])
    for name in ("colour", "kind"):
        assert back[name].tolist() == columns[name].tolist()
    np.testing.assert_allclose(back["exact"], columns["exact"], rtol=1e-6, atol=1e-7)


def test_vectors_hold_the_numbers_and_then_a_block_a_column():
    columns = a_table(50)
    codec = codec_of(columns)
    batch = codec.encode(columns)
    hot = [np.eye(size)[batch["categorical"][:, k]] for k, size in enumerate(codec.sizes)]
    vectors = np.concatenate([batch["numeric"], *hot], axis=1)
    softened = vectors + 0.3 * np.random.default_rng(1).uniform(size=vectors.shape) * (
        np.arange(vectors.shape[1]) > 2
    )
    again = codec.encode(codec.decode(softened.astype(np.float32)))
    np.testing.assert_array_equal(again["categorical"], batch["categorical"])
    np.testing.assert_allclose(again["numeric"], batch["numeric"], atol=1e-6)


def test_a_file_has_the_original_schema(tmp_path):
    columns = a_table(60)
    codec = codec_of(columns)
    batch = codec.encode(columns)
    hot = [np.eye(size)[batch["categorical"][:, k]] for k, size in enumerate(codec.sizes)]
    path = codec.write(np.concatenate([batch["numeric"], *hot], axis=1), tmp_path / "drawn_1.5")
    assert path.name == "drawn_1.5.csv" and (tmp_path / "drawn_1.5.png").read_bytes().startswith(
        b"\x89PNG"
    )
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == ["price", "colour", "count", "kind", "exact"] and len(rows) == 60
    for i, row in enumerate(rows):
        price, colour = columns["price"][i], columns["colour"][i]
        assert row[0] == ("" if np.isnan(price) else f"{price:.2f}") and row[1] == (colour or "")
        assert row[2] == str(int(columns["count"][i])) and row[3] == columns["kind"][i]
        np.testing.assert_allclose(float(row[4]), columns["exact"][i], rtol=1e-6, atol=1e-7)


def test_no_number_is_written_as_negative_zero():
    column = NumberColumn("n", (1.0,), (0.0,), (1.0,), decimals=0)
    assert column.format(column.decode(np.array([-0.1, 0.1, -0.3]), np.zeros(3, int))) == [
        "0",
        "0",
        "-1",
    ]


def test_the_codec_comes_back_from_json():
    codec = codec_of(a_table())
    again = from_json(json.loads(json.dumps(to_json(codec))))
    assert again == codec and again.sizes == codec.sizes


def test_modes_that_lie_apart_are_found_with_their_weights():
    draw = np.random.default_rng(2)
    values = np.concatenate([draw.normal(-50, 10, 600), draw.normal(100, 20, 1400)])
    weights, means, stds = (np.array(part) for part in mixture(values, 2, 0))
    order = means.argsort()
    np.testing.assert_allclose(weights[order], [0.3, 0.7], atol=0.01)
    np.testing.assert_allclose(means[order], [-50, 100], atol=2)
    np.testing.assert_allclose(stds[order], [10, 20], rtol=0.15)  # its prior widens a narrow one
    assert mixture(values, 2, 0) == mixture(values, 2, 0)


def test_a_column_that_does_not_vary_is_one_mode():
    assert mixture(np.full(9, 3.5), 5, 0) == ((1.0,), (3.5,), (1.0,))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, -7.0], 0),
        ([0.1, 0.25, 3.0], 2),
        ([1 / 3], None),
        ([1e-9], 9),
        ([153.4, 0.006399], 6),
        ([2.0**60], 0),
    ],
)
def test_rounding_is_seen_in_the_numbers(values, expected):
    assert decimals(np.array(values)) == expected


def test_what_training_never_saw_is_refused_with_row_and_column():
    columns = a_table()
    codec = codec_of(columns)
    with pytest.raises(UserError, match="row 3 has 'green' in 'kind', which no training row has"):
        codec.encode(columns | {"kind": np.array(["x", "y", "green"] * 66 + ["x", "y"], object)})
    with pytest.raises(UserError, match="row 1 has no value in 'kind', which no training row has"):
        codec.encode(columns | {"kind": np.array([None] * 200, object)})
    with pytest.raises(
        UserError, match="row 5 has no value in 'count', but every training row has one"
    ):
        codec.encode(columns | {"count": np.where(np.arange(200) == 4, np.nan, 1.0)})
    with pytest.raises(UserError, match="unknown column 'colr'; did you mean 'colour'"):
        codec.encode(columns | {"colr": columns["colour"]})
    with pytest.raises(UserError, match="the table has no column 'price'"):
        codec.encode({name: values for name, values in columns.items() if name != "price"})


def test_codecs_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="weights, means and stds of 'a' must have the same length"):
        NumberColumn("a", (1.0,), (0.0, 1.0), (1.0, 1.0))
    with pytest.raises(UserError, match="stds of 'a' must be > 0"):
        NumberColumn("a", (1.0,), (0.0,), (0.0,))
    with pytest.raises(UserError, match="values of 'b' must be distinct"):
        CategoryColumn("b", ("x", "x"))
    with pytest.raises(UserError, match="order must name each column once"):
        TableCodec((NUMBERS,), (WORDS,), ("size",))
    with pytest.raises(UserError, match="unknown target column 'color'; did you mean 'colour'"):
        TableCodec((NUMBERS,), (WORDS,), ("size", "colour"), "color")


def test_numbers_that_are_held_within_the_range_are_counted(tmp_path, capsys):
    number = NumberColumn("x", (1.0,), (0.0,), (1.0,), low=-1.0, high=1.0)
    codec = TableCodec((number,), (CategoryColumn("c", ("a",)),), ("x", "c"))
    samples = np.array(
        [[v, 1, 1] for v in (0.125, 0.5, -0.5, np.nan, 0.25)], np.float32
    )  # of 4 standard deviations
    codec.write(samples, tmp_path / "drawn")
    line = "drawn.csv: 2 numbers are clipped to the range of the training rows\n"
    assert capsys.readouterr().err == line
    rows = (tmp_path / "drawn.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["x", "0.5", "1", "-1", "", "1"]
    codec.write(samples[:1], tmp_path / "drawn")
    assert capsys.readouterr().err == ""
