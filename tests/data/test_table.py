"""Tables of files and those that scikit-learn ships: types, missing values, splits, and what
is refused.
"""

import gzip
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.datasets import load_diabetes, load_iris

from genjax.data.sources import EmbeddedTable, Table
from genjax.errors import UserError

PEOPLE = "name,age,income,town,zip\n" + "".join(
    f"p{i},{'' if i % 5 == 0 else 20 + i},{1000 + 0.5 * i},"
    f"{'Ulm' if i % 2 else 'Bonn'},0{i % 3}123\n"
    for i in range(40)
)


def written(tmp_path, text=PEOPLE, name="people.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def all_rows(data):
    """The columns of both splits together."""
    parts = [split.batch(np.arange(len(split))) for split in data.splits.values()]
    return data.codec.decode_columns(
        *(np.concatenate([part[name] for part in parts]) for name in ("numeric", "categorical"))
    )


@pytest.mark.parametrize("name", ["people.csv", "people.csv.gz", "people.tsv"])
def test_types_are_seen_in_the_values(tmp_path, name):
    text = PEOPLE.replace(",", "\t") if name.endswith(".tsv") else PEOPLE
    data = Table(written(tmp_path, text, name), "town", drop=("name",), modes=2).open()
    codec = data.codec
    assert codec.order == ("age", "income", "town", "zip") and codec.target == "town"
    assert [(column.name, column.decimals, column.missing) for column in codec.numbers] == [
        ("age", 0, True),
        ("income", 1, False),
    ]
    assert [column.values for column in codec.categories] == [
        ("Bonn", "Ulm"),
        ("00123", "01123", "02123"),
    ]
    assert (len(data.splits["train"]), len(data.splits["test"])) == (32, 8)
    columns = all_rows(data)
    assert sorted(columns["income"]) == [1000 + 0.5 * i for i in range(40)]
    assert np.isnan(columns["age"]).sum() == 8 and np.nansum(columns["age"]) == sum(
        20 + i for i in range(40) if i % 5
    )


def test_the_spec_tells_of_the_training_rows(tmp_path):
    data = Table(written(tmp_path), drop=("name",), modes=2).open()
    spec, train = data.spec, data.splits["train"].batch(np.arange(32))
    assert (
        spec.entry == "table"
        and spec.categories == data.codec.sizes
        and spec.shape == (2 + sum(spec.categories),)
    )
    assert spec.entries == {
        "numeric": ((2,), np.float32),
        "categorical": ((4,), np.int32),
        "mask": ((), np.float32),
    }
    shares = [
        np.bincount(train["categorical"][:, k], minlength=n) / 32
        for k, n in enumerate(spec.categories)
    ]
    np.testing.assert_allclose(
        spec.mean, np.concatenate([train["numeric"].mean(0), *shares]), atol=1e-6
    )


def test_a_column_may_be_said_to_hold_categories(tmp_path):
    codec = (
        Table(written(tmp_path), drop=("name", "zip"), categorical=("income",), test_fraction=0)
        .open()
        .codec
    )
    assert [column.name for column in codec.numbers] == ["age"] and "1000.5" in codec.categories[
        0
    ].values


def test_rows_are_split_by_the_seed(tmp_path):
    path = written(tmp_path)
    held_out = [
        set(
            Table(path, drop=("name",), seed=seed, modes=1)
            .open()
            .splits["test"]
            .batch(np.arange(8))["numeric"][:, 1]
        )
        for seed in (0, 0, 1)
    ]
    assert held_out[0] == held_out[1] != held_out[2]
    prints = [
        Table(path, drop=drop, seed=s, modes=1).open().fingerprint
        for drop, s in ((("name",), 0), (("name",), 1))
    ]
    assert prints[0] != prints[1]
    changed = written(tmp_path, PEOPLE.replace("1000.5", "1000.7"), "other.csv")
    assert Table(changed, drop=("name",), modes=1).open().fingerprint not in prints
    assert set(Table(path, drop=("name",), test_fraction=0, modes=1).open().splits) == {"train"}


def test_parquet_gives_what_the_same_csv_does(tmp_path):
    plain = Table(written(tmp_path), "town", drop=("name",), modes=2).open()
    numbers = range(40)
    table = pa.table(
        {
            "age": pa.array([None if i % 5 == 0 else 20 + i for i in numbers], pa.int32()),
            "income": pa.array([1000 + 0.5 * i for i in numbers], pa.float32()),
            "town": pa.array(["Ulm" if i % 2 else "Bonn" for i in numbers]).dictionary_encode(),
            "zip": pa.array([f"0{i % 3}123" for i in numbers]),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "people.parquet")
    data = Table("people.parquet", "town", modes=2, root=str(tmp_path)).open()
    assert data.codec == plain.codec and data.fingerprint == plain.fingerprint


def test_types_of_parquet_decide(tmp_path):
    table = pa.table(
        {"digits": ["1", "2"] * 9, "yes": [True, False] * 9, "x": [0.1, float("nan"), 0.3] * 6}
    )
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    codec = Table(str(tmp_path / "t.parquet"), test_fraction=0, modes=1).open().codec
    assert [column.values for column in codec.categories] == [("1", "2"), ("False", "True")]
    assert codec.numbers[0].missing and codec.numbers[0].decimals == 1
    spans = pa.table({"x": [1, 2, 3], "span": pa.array([1, 2, 3], pa.duration("s"))})
    pyarrow.parquet.write_table(spans, tmp_path / "spans.parquet")
    with pytest.raises(
        UserError,
        match=r"column 'span' of spans.parquet must hold numbers or categories, got duration\[s\]",
    ):
        Table(str(tmp_path / "spans.parquet")).open()
    Table(str(tmp_path / "spans.parquet"), drop=("span",), test_fraction=0).open()


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        (
            "a,b\n1,2\n3\n",
            {},
            r"row 2 of t.csv \(line 3\) has 1 values, but the header names 2 columns",
        ),
        ("a,b\n1,2\n\n3,4,5\n", {}, r"row 2 of t.csv \(line 4\) has 3 values"),
        ("a,b\n1,\n2,NA\n", {}, "column 'b' of t.csv holds no value; leave it out"),
        ("a,b\n1,x\n2,y\n", {"drop": ("c",)}, "t.csv: unknown column 'c'"),
        (
            "age,b\n1,x\n2,y\n",
            {"target": "agee"},
            "t.csv: unknown column 'agee'; did you mean 'age'",
        ),
        (
            "a,b\n1,x\n2,y\n",
            {"numeric": ("b",)},
            "row 1 of t.csv has 'x' in 'b', where 0 of 2 values are numbers",
        ),
        (
            "a\n1\n2\n3\nabc\n",
            {},
            "row 4 of t.csv has 'abc' in 'a', where 3 of 4 values are numbers: fix it",
        ),
        ("a\n1\ninf\n3\n", {}, "row 2 of t.csv has 'inf' in 'a'"),
        ("a\n1\n1e400\n3\n", {}, "row 2 of t.csv has '1e400' in 'a': numbers must be <= 1e.18"),
        ("a\n1\n-1e300\n3\n", {}, "row 2 of t.csv has '-1e300' in 'a'"),
        (
            "a,b\n1,2\n3,4\n",
            {"numeric": ("a",), "categorical": ("a",)},
            "must not be in both numeric and categorical",
        ),
        ("a,a\n1,2\n", {}, "t.csv has two columns named 'a'"),
        ("a,\n1,2\n", {}, "column 2 of t.csv has no name"),
        ("a,b\n", {}, "t.csv has no rows"),
        ("", {}, "t.csv has no columns"),
        ("a\n1\n", {"drop": ("a",)}, "t.csv has no columns besides those in drop"),
        ("a\n1\n2\n", {}, "t.csv has too few rows: 2, of which 1 are left"),
        ('a\n"1\n', {}, "t.csv cannot be read as a table, near line 2"),
    ],
)
def test_broken_tables_are_refused_by_name(tmp_path, text, fields, message):
    with pytest.raises(UserError, match=message):
        Table(written(tmp_path, text, "t.csv"), **fields).open()


def test_a_held_out_row_with_a_category_of_its_own_is_trained_on_and_counted(tmp_path, capsys):
    rows = ["x,1", "y,2"] * 20
    path = written(tmp_path, "a,n\n" + "\n".join(rows) + "\n", "t.csv")
    assert len(Table(path, modes=1).open().splits["test"]) == 8 and not capsys.readouterr().err
    held_out = np.setdiff1d(np.arange(40), np.sort(_train_rows(40)))
    rows[held_out[0]] = rows[held_out[1]] = "rare,3"
    rows[held_out[2]] = "y,"
    data = Table(written(tmp_path, "a,n\n" + "\n".join(rows) + "\n", "t.csv"), modes=1).open()
    assert (len(data.splits["train"]), len(data.splits["test"])) == (34, 6)
    assert data.codec.categories[0].values == ("rare", "x", "y") and data.codec.numbers[0].missing
    assert min(np.split(data.spec.mean, [1])[1]) > 0  # each category and mode is in training
    error = capsys.readouterr().err
    assert (
        "2 of 8 held-out rows are trained on" in error
        and "'rare' in 'a'" in error
        and "no value in 'n'" in error
    )
    with pytest.raises(UserError) as refused:
        ids = "a\n" + "\n".join(f"u{i}" for i in range(40))
        Table(written(tmp_path, ids, "t.csv"), categorical=("a",)).open()
    assert refused.value.field == "test_fraction"


def _train_rows(rows):
    from genjax.data.splits import HOLD_OUT
    from genjax.data.stream import permutation

    return permutation(0, HOLD_OUT, rows)[rows // 5 :]


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        Table(str(tmp_path / "none.csv")).open()
    with pytest.raises(UserError, match="notes.txt must end in .jsonl"):
        Table(written(tmp_path, "a\n1\n", "notes.txt")).open()
    with pytest.raises(UserError, match="rows.jsonl must end in .csv"):
        Table(written(tmp_path, "{}\n", "rows.jsonl")).open()
    with pytest.raises(UserError, match="bad.parquet cannot be read as Parquet"):
        Table(written(tmp_path, "no", "bad.parquet")).open()
    with pytest.raises(UserError, match="is not utf-8"):
        (tmp_path / "latin.csv").write_bytes("a\nü\n".encode("latin-1"))
        Table(str(tmp_path / "latin.csv")).open()
    for fields, message in (
        ({"test_fraction": 1.0}, "test_fraction must be >= 0"),
        ({"modes": 0}, "modes must be >="),
    ):
        with pytest.raises(UserError, match=message):
            Table("t.csv", **fields)
        with pytest.raises(UserError, match=message):
            EmbeddedTable(**fields)


def test_embedded_tables_are_the_real_ones():
    columns, bunch = all_rows(EmbeddedTable("iris", modes=2).open()), load_iris()
    names = [str(name) for name in bunch.feature_names]
    assert list(columns) == [*names, "species"]
    rows = sorted(zip(*(columns[name] for name in names), columns["species"], strict=True))
    whole = np.round(bunch.data, 1)
    assert rows == sorted(
        (*row, str(bunch.target_names[t]))
        for row, t in zip(whole.tolist(), bunch.target, strict=True)
    )


def test_the_target_of_diabetes_is_a_number_and_sex_a_category():
    data = EmbeddedTable("diabetes", modes=1).open()
    assert data.codec.target == "progression" and [c.name for c in data.codec.categories] == ["sex"]
    columns, bunch = all_rows(data), load_diabetes(scaled=False)
    assert sorted(columns["progression"]) == sorted(bunch.target)
    assert sorted(columns["sex"]) == sorted(f"{x:.0f}" for x in bunch.data[:, 1])
    with pytest.raises(
        UserError, match="unknown table 'brest_cancer'; did you mean 'breast_cancer'"
    ):
        EmbeddedTable("brest_cancer")


def column(values, name="x"):
    """A table of a column beside one of numbers."""
    return f"age,{name}\n" + "".join(f'{20 + i % 50},"{value}"\n' for i, value in enumerate(values))


DATES = {
    "days": [f"{1970 + 3 * i}-0{i % 9 + 1}-{i % 28 + 1:02d}" for i in range(40)],
    "minutes": [f"2024-02-29 {i % 24:02d}:{i:02d}" for i in range(40)],
    "seconds": [f"{1990 + i}-12-31T23:59:{i:02d}Z" for i in range(40)],
    "nanoseconds": [
        f"2023-06-{i % 30 + 1:02d}T00:00:00.{987654321 * i % 10**9:09d}+05:30" for i in range(40)
    ],
    "zones": [f"{2000 + i}-01-01T12:34:56.{i:03d}{('Z', '+02:00', '')[i % 3]}" for i in range(40)],
    "times": [f"{i % 24:02d}:{i:02d}:59" for i in range(40)],
    "missing": [f"20{i + 10}-05-06" if i % 4 else " NA " for i in range(40)],
}


@pytest.mark.parametrize("values", DATES.values(), ids=DATES)
def test_iso_dates_and_times_come_back_as_they_were_written(tmp_path, values):
    data = Table(written(tmp_path, column(values), "t.csv"), "x", test_fraction=0, modes=2).open()
    batch = data.splits["train"].batch(np.arange(40))
    assert all(code.decimals == 0 for code in data.codec.numbers)
    back = data.codec.format(data.codec.decode_columns(batch["numeric"], batch["categorical"]))
    assert list(back) == ["age", "x"]
    assert back["x"] == ["" if value == " NA " else value for value in values]


def test_samples_of_dates_are_dates_within_those_of_training(tmp_path):
    data = Table(
        written(tmp_path, column(DATES["seconds"]), "t.csv"), test_fraction=0, modes=2
    ).open()
    draws = (
        np.random.default_rng(0).normal(scale=5, size=(200, *data.spec.shape)).astype(np.float32)
    )
    path = data.codec.write(draws, tmp_path / "drawn")
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    assert header == ["age", "x"]
    days = [row[1][:10] for row in rows]
    assert (
        min(days) >= "1990-12-31"
        and max(days) <= "2029-12-31"
        and all(row[1][10:17] == "T23:59:" for row in rows)
    )


@pytest.mark.parametrize("in_range", [True, False])
def test_samples_are_held_within_the_range_of_training(tmp_path, in_range):
    text = "size,n\n" + "".join(f"{i / 10},{i}\n" for i in range(40))
    data = Table(
        written(tmp_path, text, "t.csv"), test_fraction=0, modes=1, in_range=in_range
    ).open()
    draws = (
        np.random.default_rng(0).normal(scale=2, size=(300, *data.spec.shape)).astype(np.float32)
    )
    columns = data.codec.decode(draws)
    assert ((columns["size"] >= 0) & (columns["size"] <= 3.9)).all() == in_range
    assert (columns["n"] == np.round(columns["n"])).all()
    outside = data.codec.encode(
        {"size": np.array([-7.5]), "n": np.array([99.0])}
    )  # real rows stay as they are
    back = data.codec.decode_columns(outside["numeric"], outside["categorical"])
    assert (back["size"][0], back["n"][0]) == (-7.5, 99)


WRONG_FORMS = {
    "ids": ([f"u{i:04d}" for i in range(40)], "40 different values.*an id or free text.*drop"),
    "two units": (["3 kg", "4 lb", "5 kg"] * 10, "3 different values.*a number with a unit.*drop"),
    "two ways": (["1.234,5 €", "1,234.5 €"] * 10, "2 different values.*a number with a unit"),
    "some words": ([f"{i} kg" for i in range(40)] + ["heavy"], "a number with a unit"),
    "german dates": (
        [f"{i % 28 + 1}.10.2023" for i in range(40)],
        "a date that is not ISO.*write it like this",
    ),
    "american dates": ([f"10/{i % 28 + 1}/23" for i in range(40)], "a date that is not ISO"),
    "words": ([f"{i % 28 + 1} Apr 2023" for i in range(40)], "a date that is not ISO"),
    "no such day": (["2023-02-28"] * 20 + ["2023-02-30"], "row 21 .*'2023-02-30'.*not a date"),
    "with and without": (["2023-02-28"] * 20 + ["2023-02-28 10:00"], "row 21 .*one form"),
    "mostly dates": (
        ["2023-02-28"] * 20 + ["soon"],
        "row 21 .*'soon'.*20 of 21 values are ISO dates",
    ),
}


@pytest.mark.parametrize(("values", "message"), WRONG_FORMS.values(), ids=WRONG_FORMS)
def test_what_is_neither_number_nor_category_is_refused_by_name(tmp_path, values, message):
    path = written(tmp_path, column(values), "t.csv")
    with pytest.raises(UserError, match=message) as refused:
        Table(path).open()
    assert (
        refused.value.field == "t.csv"
        and "'x'" in str(refused.value)
        and "\n" not in str(refused.value)
    )
    for fields in ({"drop": ("x",)}, {"categorical": ("x",), "test_fraction": 0}):
        Table(path, modes=1, **fields).open()


@pytest.mark.parametrize(
    "values", [["4WD", "2WD"], ["18-25", "26-40"], ["1st", "2nd"], ["A", "10 or more"]]
)
def test_categories_with_digits_stay_such(tmp_path, values):
    codec = Table(written(tmp_path, column(values * 20), "t.csv"), modes=1).open().codec
    assert codec.categories[0].values == tuple(sorted(values))


def test_markers_of_what_is_missing_count_without_the_blanks_around_them(tmp_path, capsys):
    text = "a,b\n" + "".join(
        f"{('?', ' ? ', '', '  ', i)[i % 5]},{('x', 'y', ' ?')[i % 3]}\n" for i in range(60)
    )
    data = Table(written(tmp_path, text, "t.csv"), missing=(" ?",), test_fraction=0, modes=1).open()
    columns = all_rows(data)
    assert np.isnan(columns["a"]).sum() == 48 and list(columns["b"]).count(None) == 20
    assert "48 in 'a', 20 in 'b'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1.234,50 kg", "12,345.00 kg"] * 9, "a number with a unit"),
        (["1.234,50", "12,345.00"] * 9, "such as '12,345.00', a number with a separator"),
        (["2024-01-02", "02.01.2024"] * 9, "such as '02.01.2024', a date that is not ISO"),
        (
            ["9007199254740992", "1"] * 9,
            "row 1 .* whole numbers above 2\\^53 are not distinguished",
        ),
        (
            ["0000-01-01", "2024-01-01", "2024-01-02"] * 9,
            "row 1 .* '0000-01-01' .* which is not a date",
        ),
        (
            ["01234"] + ["10115", "99999"] * 9,
            "row 1 .* has '01234' .* or the column in categorical",
        ),
        (["1", "2", "inf"] * 9, "row 3 .* has 'inf'"),
        (
            ["1", "-Infinity", "inf"] * 9,
            "row 2 .* has '-Infinity' in 'v', where 9 of 27 values are numbers",
        ),
        (["1", "2", "."] * 9, "row 3 .* has '.'"),
        (["1e40", "2"] * 9, "numbers must be <="),
        ([""] * 9, "column 'v' of t.csv holds no value; leave it out"),
    ],
)
def test_numbers_and_dates_in_forms_of_other_countries_are_refused_by_name(
    tmp_path, values, message
):
    cells = "".join(f'{number},"{value}"\n' for number, value in enumerate(values))
    (tmp_path / "t.csv").write_text("x,v\n" + cells, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        Table(str(tmp_path / "t.csv"), test_fraction=0, modes=1).open()


@pytest.mark.parametrize(
    "values",
    [
        ["20240228", "20240229", "20231231"],
        ["2024-02-28 03:04:05 +0000", "2024-02-29 03:04:06 +0000"],
        ["2024-02-28 03:04:05 UTC", "2024-02-29 23:59:59 UTC"],
        ["-0.0", "-0", "-3"],
        ["9007199254740991", "-9007199254740991"],
        ["1999", "2024"],
        ["5", "5"],
    ],
)
def test_samples_are_written_in_the_form_of_the_data_and_within_its_range(tmp_path, values):
    (tmp_path / "t.csv").write_text("v\n" + "".join(f"{value}\n" for value in values * 6))
    data = Table(str(tmp_path / "t.csv"), test_fraction=0, modes=1).open()
    noise = np.random.default_rng(0).normal(size=(200, *data.spec.shape)).astype(np.float32) * 4
    drawn = data.codec.format(data.codec.decode(noise))["v"]
    form = re.compile(
        "^"
        + re.sub("[0-9]+", "[0-9]+", re.escape(values[0]).replace(r"\.0", "").lstrip("-\\"))
        + "$"
    )
    assert all(form.match(text.lstrip("-")) for text in drawn)
    assert not any(re.fullmatch(r"-0(\.0*)?", text) for text in drawn)
    if len(values[0]) == 8 and values[0].isdigit():
        assert all(
            np.datetime64(f"{t[:4]}-{t[4:6]}-{t[6:]}") <= np.datetime64("2024-02-29") for t in drawn
        )
    elif values[0].lstrip("-")[-1].isdigit() and "+" not in values[0]:
        numbers = [float(value) for value in values]
        assert all(min(numbers) <= float(text) <= max(numbers) for text in drawn)
    split = data.splits["train"]
    again = data.codec.format(data.codec.decode_columns(split.numeric, split.categorical))["v"]
    if "9007" not in values[0]:  # whose range is more than float32 tells apart
        assert set(again) == {value if value not in ("-0.0", "-0") else "0" for value in values}


def test_compact_dates_of_which_one_is_no_day_and_listed_ones_are_numbers(tmp_path):
    for days, listed in ((["20240230", "20240229"], ()), (["20240228", "20240229"], ("v",))):
        (tmp_path / "t.csv").write_text("v\n" + "".join(f"{day}\n" for day in days * 6))
        data = Table(str(tmp_path / "t.csv"), test_fraction=0, modes=1, numeric=listed).open()
        assert not data.codec.dates and data.codec.numbers[0].low == float(min(days))


def test_a_missing_header_and_categories_that_look_alike_are_said(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("1.5,2\n" + "1,2\n2,3\n" * 6)
    assert (
        "all column names are numbers"
        in Table(str(tmp_path / "t.csv"), test_fraction=0).open().remarks[0]
    )
    (tmp_path / "t.csv").write_text("v,w\n" + "yes,a\n Yes ,b\nno,a\n" * 6)
    (line,) = Table(str(tmp_path / "t.csv"), test_fraction=0).open().remarks
    assert "categories differ only in blanks and case, 1 in 'v'" in line


def test_tables_of_few_rows_and_of_rows_that_are_ragged_at_the_end(tmp_path):
    (tmp_path / "t.csv").write_text("v\n1\n1\n")
    assert len(Table(str(tmp_path / "t.csv"), test_fraction=0).open().splits["train"]) == 2
    (tmp_path / "t.csv").write_text("v\n1\n")
    with pytest.raises(UserError, match="has too few rows: 1, of which 1 are left"):
        Table(str(tmp_path / "t.csv"), test_fraction=0).open()
    (tmp_path / "t.csv").write_text("v,w\n" + "1,2\n" * 100_000 + "1,2,3\n")
    with pytest.raises(UserError, match=r"row 100,001 of t.csv \(line 100,002\) has 3 values"):
        Table(str(tmp_path / "t.csv")).open()
