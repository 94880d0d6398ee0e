"""One reader of CSV and TSV behind tables, texts and preparations: written files are read
back, or told in a line.
"""

import csv
import io
import itertools
import random
from collections import Counter

import numpy as np
import pytest

from genjax.data.sources import Table
from genjax.data.tables.delimited import DelimitedRows, choose_dialect
from genjax.data.tables.tables import TableTexts
from genjax.data.text.documents import lines, split_lines
from genjax.errors import UserError
from genjax.prepare.files import Files
from genjax.prepare.readers import Csv

PIECES = [
    "a",
    "Ulm",
    "é",
    "漢",
    "1",
    "-2.5",
    " ",
    '"',
    '""',
    "'",
    ",",
    ";",
    "\t",
    "|",
    "\n",
    "\r\n",
    "\\",
    "#",
    "",
    "x y",
]


def a_table(draw, width, plain=False):
    """A header and rows of random values; plain ones have no tabs or line ends."""
    pieces = [piece for piece in PIECES if not plain or not set(piece) & set("\t\r\n")]

    def value():
        return "".join(draw.choice(pieces, draw.integers(0, 5)))

    return [[f"c{i}" for i in range(width)], *([value() for _ in range(width)] for _ in range(12))]


def write(path, rows, **dialect):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **dialect).writerows(rows)


def by_rows(path, **how):
    dialect = choose_dialect(path.name, how.get("delimiter"), how.get("quote"), how.get("escape"))
    rows = DelimitedRows(path.name, lines(path), dialect)
    found = list(rows)
    assert not [row.fault for row in found if row.fault]
    return [rows.names, *(row.cells for row in found)]


def by_texts(path, **how):
    """The last column, as ``TextTables`` reads it."""
    table = TableTexts(path.parent, (path,), f"c{len(by_rows(path, **how)[0]) - 1}", **how)
    return [piece.text for piece in table.iterate_pieces()]


def by_preparation(path, **how):
    reader = Csv((path.name,), str(path.parent), **how)
    files = Files.find(str(path.parent), (path.name,))
    found = list(reader.read(files, files.paths[0]))
    assert not [one.fault for one in found if one.fault]
    return [[value or "" for value in one.values.values()] for one in found]


def check(path, rows, **how):
    assert by_rows(path, **how) == rows
    assert by_texts(path, **how) == [row[-1] for row in rows[1:] if row[-1]]
    assert by_preparation(path, **how) == rows[1:]


WRITTEN = list(
    itertools.product(
        (csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC),
        ",;\t|:",
        "\"'",
        ("\n", "\r\n", "\r"),
        (True, False),
    )
)


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC])
def test_what_pythons_csv_writes_is_read_back(tmp_path, quoting):
    draw = np.random.default_rng(quoting)
    for number, (_, delimiter, quote, end, double) in enumerate(
        w for w in WRITTEN if w[0] == quoting
    ):
        rows = a_table(draw, 1 + number % 4)
        if (
            end != "\r\n"
            # Python before 3.13 leaves other line ends without quotes, where nothing tells them
            # apart
        ):
            rows = [
                [value.replace("\r\n", "\n").replace("\n", end) for value in row] for row in rows
            ]
        path = tmp_path / f"{number}.csv"
        escape = {} if double else {"escapechar": "\\", "doublequote": False}
        write(
            path,
            rows,
            quoting=quoting,
            delimiter=delimiter,
            quotechar=quote,
            lineterminator=end,
            **escape,
        )
        check(path, rows, delimiter=delimiter, quote=quote, **({} if double else {"escape": "\\"}))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_unquoted_rows_with_an_escape_are_read_back(tmp_path, name):
    draw = np.random.default_rng(7)
    for delimiter, _ in itertools.product(",\t|", range(5)):
        rows = [[value.replace("\r\n", "\n") or "-" for value in row] for row in a_table(draw, 3)]
        path = tmp_path / name
        write(
            path,
            rows,
            quoting=csv.QUOTE_NONE,
            escapechar="\\",
            delimiter=delimiter,
            lineterminator="\n",
        )
        check(path, rows, delimiter=delimiter, quote="", escape="\\")


def test_tsv_without_quotes_is_read_back_as_it_stands_and_quoted_tsv_by_the_option(tmp_path):
    draw = np.random.default_rng(8)
    for number in range(20):
        rows = a_table(draw, 2 + number % 3, plain=True)
        path = tmp_path / ("t.tsv", "T.TSV")[number % 2]
        path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
        check(path, rows)
        rows = a_table(draw, 2)
        write(path, rows, delimiter="\t")
        check(path, rows, quote='"')


def test_a_quote_in_tsv_swallows_no_rows(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text('c0\tc1\n1\t"Where is it?\n2\tHe said "no"\n3\t"\n4\tplain\n')
    check(
        path,
        [["c0", "c1"], ["1", '"Where is it?'], ["2", 'He said "no"'], ["3", '"'], ["4", "plain"]],
    )


def test_byte_order_marks_line_ends_and_empty_lines_change_nothing(tmp_path):
    rows = [["c0", "c1"], ["1", "a, b"], ["2", "x\ny"], ["", "z"]]
    for number, (mark, end) in enumerate(
        itertools.product((b"", b"\xef\xbb\xbf"), ("\n", "\r\n", "\r"))
    ):
        path = tmp_path / f"{number}.csv"
        text = end.join(["", "c0,c1", '1,"a, b"', '2,"x\ny"', "", ",z", "  ", ""])
        path.write_bytes(mark + text.encode())
        check(path, rows)
        found = DelimitedRows("t", lines(path), choose_dialect("t.csv", None, None, None))
        assert len(list(found)) == 3 and found.empty == 3


def test_blanks_before_a_quote_are_none_of_the_value_and_others_are(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('c0,c1\n1, "a, b"\n2, "x\ny"\n 3,  z \n')
    check(path, [["c0", "c1"], ["1", "a, b"], ["2", "x\ny"], [" 3", "  z "]])
    path.write_text('c0, c1\n1, "a, b"\n2,  z\n')
    check(path, [["c0", "c1"], ["1", "a, b"], ["2", "z"]])


BROKEN = {
    "comma": (
        "id,text\n1,Good soup, but cold\n2,fine\n",
        r"row 1 .*line 2.* has 3 values, but the header names 2",
    ),
    "short": ("id,text\n1,x\n2\n", r"row 2 .*line 3.* has 1 values"),
    "twice": ("text,text\na,b\n", "two columns named 'text'"),
    "blanks": ("text, text \na,b\n", "two columns named 'text'"),
    "nameless": ("text,,b\na,b,c\n", "column 2 of t.csv has no name"),
    "semicolon": ("id;text\n1;a\n2;b\n", "set delimiter=';'"),
    "decimal comma": ("id;text\n1,5;2,5\n", "set delimiter=';'"),
    "tab": ("id\ttext\n1\ta\n", r"set delimiter='\\t'"),
    "unclosed": ('id,text\n1,"a\n2,b\n', "near line 3 .*starts at line 2.*a quote is not closed"),
    "after a quote": ('id,text\n1,"a"b\n', "near line 2"),
    "null": ("id,text\n1,a\0b\n", "near line 2: it holds a NUL"),
    "null in the header": ("id,te\0xt\n1,b\n", "header holds a NUL"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_told_the_same_by_tables_and_texts(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    reading = (
        lambda: Table(str(path)).open(),
        lambda: list(TableTexts(tmp_path, (path,)).iterate_pieces()),
    )
    for read in reading:
        with pytest.raises(UserError, match=message) as refused:
            read()
        assert refused.value.field in (str(path), "t.csv") and "\n" not in str(refused.value)


def test_a_preparation_sets_broken_rows_aside_and_keeps_the_others(tmp_path):
    (tmp_path / "t.csv").write_text("id,text\n1,a, b\n2,fine\n3,n\0l\n4\n5,good\n")
    files = Files.find(str(tmp_path), ("t.csv",))
    found = list(Csv(("t.csv",), str(tmp_path)).read(files, files.paths[0]))
    assert [one.values["text"] for one in found if not one.fault] == ["fine", "good"]
    assert [(one.place[-1], "NUL" in one.fault) for one in found if one.fault] == [
        ("1", False),
        ("3", True),
        ("4", False),
    ]


def test_a_header_alone_and_an_empty_file_are_told_apart(tmp_path):
    for text, message in (
        ("a,b\n", "has no rows"),
        ("", "has no columns"),
        ("\n\n", "has no columns"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(UserError, match=message):
            Table(str(tmp_path / "t.csv")).open()


@pytest.mark.parametrize(
    "how", [{"delimiter": ""}, {"delimiter": ",,"}, {"quote": "ab"}, {"escape": "\n"}]
)
def test_dialects_that_nothing_is_written_in_are_refused(how):
    for make in (lambda: Table("t.csv", **how), lambda: Csv(("t.csv",), **how)):
        with pytest.raises(UserError) as refused:
            make()
        assert refused.value.field in how


ODD = [*PIECES, "\r", "\x0b", "\u2028", "\ufeff", "\x1a", "  ", ":", "~", "=1+1", "NULL"]


@pytest.mark.parametrize(
    "quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE]
)
def test_in_any_dialect_rows_come_back_or_a_row_is_told(quoting):
    draw = random.Random(quoting)
    same = 0
    for _ in range(600):
        delimiter, quote = draw.choice(",;\t|: ~"), draw.choice("\"'")
        end, double = draw.choice(["\n", "\r\n", "\r"]), draw.random() < 0.7
        escape = "\\" if quoting == csv.QUOTE_NONE or not double or draw.random() < 0.2 else None
        width = draw.randint(1, 4)
        cells = [
            "".join(draw.choices(ODD, k=draw.choice([0, 1, 1, 2, 3])))
            for _ in range(width * draw.randint(1, 4))
        ]
        rows = [
            [f"c{n}" for n in range(width)],
            *(cells[n : n + width] for n in range(0, len(cells), width)),
        ]
        how = {
            "delimiter": delimiter,
            "quotechar": quote,
            "quoting": quoting,
            "doublequote": double,
        }
        buffer = io.StringIO(newline="")
        try:
            csv.writer(buffer, lineterminator=end, escapechar=escape, **how).writerows(rows)
        except csv.Error:  # Python does not write it, either
            continue
        text = buffer.getvalue()
        dialect = choose_dialect(
            "t.csv", delimiter, "" if quoting == csv.QUOTE_NONE else quote, escape
        )
        try:
            read = DelimitedRows("t.csv", split_lines([text]), dialect)
            found = list(read)
        except ValueError:
            continue
        if any(row.fault for row in found):
            continue
        kept = [row for row in rows[1:] if read.empty == 0 or any(cell.strip() for cell in row)]
        ambiguous = end != "\r\n" and any(set(cell) & set("\r\n") for row in rows for cell in row)
        lost = ambiguous and not _python_reads(text, rows, escape, **how)
        assert lost or [row.cells for row in found] == kept, text
        same += 1
    assert same > 300


def _python_reads(text, rows, escape, **how):
    how["quoting"] = csv.QUOTE_NONE if how["quoting"] == csv.QUOTE_NONE else csv.QUOTE_MINIMAL
    try:
        return (
            list(csv.reader(io.StringIO(text, newline=""), escapechar=escape, strict=True, **how))
            == rows
        )
    except csv.Error:
        return False


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "shift_jis"]
)
def test_tables_in_other_encodings_are_read_by_naming_it(tmp_path, encoding):
    word = "日本" if encoding == "shift_jis" else "é"
    (tmp_path / "t.csv").write_bytes(f'a,b\n"{word}, x",1\n\n"y\n{word}",2\n'.encode(encoding))
    table = TableTexts(tmp_path, (tmp_path / "t.csv",), "a", encoding)
    assert [piece.text for piece in table.iterate_pieces()] == [f"{word}, x", f"y\n{word}"]
    codec = (
        Table(str(tmp_path / "t.csv"), encoding=encoding, categorical=("a",), test_fraction=0)
        .open()
        .codec
    )
    assert set(codec.categories[0].values) == {f"{word}, x", f"y\n{word}"}
    if encoding.startswith(("utf-16", "utf-32")):
        with pytest.raises(UserError) as error:
            Csv(("t.csv",), str(tmp_path), encodings=(encoding,))
        assert error.value.field == "encodings"
    else:
        reader, left = Csv(("t.csv",), str(tmp_path), encodings=("utf-8", encoding)), Counter()
        files = reader.find_files()
        rows = [one.values for one in reader.read(files, files.paths[0], left)]
        assert rows == [{"a": f"{word}, x", "b": "1"}, {"a": f"y\n{word}", "b": "2"}]
        assert (
            left["byte order marks left out"] == (encoding == "utf-8-sig")
            and left["empty lines skipped"] == 1
        )
        assert left[f"texts read as {encoding}, as they are not utf-8"] == (
            0 if encoding == "utf-8-sig" else 2
        )
