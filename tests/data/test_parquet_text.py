"""Texts in Parquet files, however other programs have stored them, to every reader of such
files.
"""

import datetime
import decimal
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genjax.data.sources import Table
from genjax.data.tables.tables import TableTexts
from genjax.errors import UserError
from genjax.prepare.readers import Parquet

TEXTS = ["café", None, "", "漢字 😀", "plain", "a" * 50]
DAMAGED = pa.Array.from_buffers(
    pa.string(), 2, pa.array([b"good", b"b\xe9d"], pa.binary()).buffers()
)
TYPES = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "dictionary of bytes": pa.dictionary(pa.int8(), pa.binary()),
}


def stored(tmp_path, column, name="text"):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({name: column, "n": pa.array(range(len(column)))}), path)
    return path


def prepared(path, **how):
    """The texts of a preparation, its faults, and what it counts."""
    reader, left = Parquet((path.name,), str(path.parent), **how), Counter()
    files = reader.find_files()
    found = list(reader.read(files, files.paths[0], left))
    return (
        [one.values.get("text") for one in found if one.fault is None],
        [one.fault for one in found if one.fault],
        +left,
    )


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_text_is_the_same_text(tmp_path, kind):
    of_bytes = "bytes" in kind or "binary" in kind
    values = [None if t is None else t.encode() if of_bytes else t for t in TEXTS]
    plain = pa.array(values, pa.binary() if of_bytes else pa.string())
    path = stored(
        tmp_path, plain.dictionary_encode() if "dictionary" in kind else plain.cast(TYPES[kind])
    )
    table = TableTexts(tmp_path, (path,))
    assert [piece.text for piece in table.iterate_pieces()] == [text for text in TEXTS if text]
    assert table.left.total == {"rows without text skipped": 2}
    assert prepared(path) == (TEXTS, [], {})
    few = pa.array((["é".encode(), b"b"] if of_bytes else ["é", "b"]) * 9)
    path = stored(
        tmp_path, few.dictionary_encode() if "dictionary" in kind else few.cast(TYPES[kind])
    )
    (column,) = Table(str(path), test_fraction=0).open().codec.categories
    assert column.values == ("b", "é")


@pytest.mark.parametrize("kind", ["string", "bytes"])
def test_what_is_not_utf_8_is_read_in_an_encoding_or_told_with_its_row(tmp_path, kind):
    path = stored(tmp_path, {"string": DAMAGED, "bytes": DAMAGED.cast(pa.binary())}[kind])
    with pytest.raises(
        UserError, match=r"row 2 of t.parquet has bytes in 'text' that are not utf-8"
    ) as error:
        list(TableTexts(tmp_path, (path,)).iterate_pieces())
    assert error.value.field == "text"
    with pytest.raises(
        UserError, match=r"row 2 of t.parquet has bytes in 'text' that are not utf-8"
    ):
        Table(str(path)).open()
    latin = TableTexts(tmp_path, (path,), encoding="latin-1")
    assert [piece.text for piece in latin.iterate_pieces()] == ["good", "béd"]
    with pytest.raises(UserError, match="encoding must be .*, got 'latin-x'"):
        list(TableTexts(tmp_path, (path,), encoding="latin-x").iterate_pieces())
    assert prepared(path) == (["good"], ["not in utf-8"], {})
    found = prepared(path, encodings=("utf-8", "latin-1"))
    assert found == (["good", "béd"], [], {"texts read as latin-1, as they are not utf-8": 1})


def test_lists_and_structs_are_json_and_their_damaged_texts_are_set_aside(tmp_path):
    whole = pa.array([["é", None], []], pa.list_(pa.string()))
    assert prepared(stored(tmp_path, whole)) == (['["é", null]', "[]"], [], {})
    for column in (
        pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), DAMAGED),
        pa.LargeListArray.from_arrays(pa.array([0, 1, 2], pa.int64()), DAMAGED),
        pa.FixedSizeListArray.from_arrays(DAMAGED, 1),
        pa.StructArray.from_arrays([DAMAGED], ["a"]),
    ):
        texts, faults, counts = prepared(stored(tmp_path, column))
        assert (
            texts in (['["good"]'], ['{"a": "good"}']) and faults == ["not in utf-8"] and not counts
        )
    with pytest.raises(UserError, match=r"row 1 of t.parquet holds dict in 'text', not text"):
        list(TableTexts(tmp_path, (stored(tmp_path, pa.array([{"a": "b"}])),)).iterate_pieces())


MOMENTS = {
    "date": pa.array([datetime.date(2024, 2, 28 + i % 2) for i in range(12)]),
    "seconds": pa.array(
        [datetime.datetime(2024, 2, 28, 23, 59, 58 + i % 2) for i in range(12)], pa.timestamp("s")
    ),
    "nanoseconds": pa.array(
        [datetime.datetime(2024, 2, 28, i, 0, 5) for i in range(12)], pa.timestamp("ns")
    ),
    "microseconds": pa.array(
        [datetime.datetime(2024, 2, 28, i, 0, 5, 250_000) for i in range(12)], pa.timestamp("us")
    ),
    "zone": pa.array(
        [datetime.datetime(2024, 2, 28, i) for i in range(12)], pa.timestamp("ms", "UTC")
    ),
    "time": pa.array([datetime.time(i, 30) for i in range(12)], pa.time64("us")),
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_dates_and_times_are_those_of_a_table_of_texts(tmp_path, kind):
    table = Table(str(stored(tmp_path, MOMENTS[kind], "when")), test_fraction=0, modes=1).open()
    assert [date.name for date in table.codec.dates] == ["when"]
    split = table.splits["train"]
    written = table.codec.format(table.codec.decode_columns(split.numeric, split.categorical))[
        "when"
    ]
    moments = [str(value) for value in MOMENTS[kind].to_pylist()]
    form = str.maketrans("", "", "0TZ .:+-")
    assert [text.translate(form) for text in written] == [text.translate(form) for text in moments]


def test_moments_that_python_has_no_values_of_are_texts_or_told(tmp_path):
    early = pa.array([-(10**12), 1] * 6, pa.int64()).cast(pa.timestamp("s"))
    assert prepared(stored(tmp_path, early))[0][:1] == ["-29719-04-05 22:13:20.000"]
    fine = pa.array([1, 2] * 6, pa.int64()).cast(pa.time64("ns"))
    assert prepared(stored(tmp_path, fine))[0][:1] == ["00:00:00.000000001"]
    nowhere = pa.array([1, 2] * 6, pa.int64()).cast(pa.timestamp("s", "Foo/Bar"))
    with pytest.raises(UserError, match="column 'text' of t.parquet cannot be read: .*Foo/Bar"):
        Table(str(stored(tmp_path, nowhere))).open()
    endless = pa.array([1.5, float("inf")] * 6)
    with pytest.raises(UserError, match="row 2 of t.parquet has 'inf' in 'x'"):
        Table(str(stored(tmp_path, endless, "x"))).open()


def test_decimals_are_numbers_and_booleans_categories(tmp_path):
    column = pa.array(
        [decimal.Decimal("1.50"), decimal.Decimal("-2.25"), None] * 6, pa.decimal128(9, 2)
    )
    (number, _) = (
        Table(str(stored(tmp_path, column, "x")), test_fraction=0, modes=1).open().codec.numbers
    )
    assert (number.low, number.high, number.decimals, number.missing) == (-2.25, 1.5, 2, True)
    column = pa.array([True, None, False] * 6)
    (category,) = (
        Table(str(stored(tmp_path, column, "x")), test_fraction=0, modes=1).open().codec.categories
    )
    assert category.values == ("False", "True") and category.missing
