"""What readers and stages pass over and change is counted, and stands on the data card."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genjax.data.tally import EMPTY_LINES, HALVES, MARKS
from genjax.prepare import card
from genjax.prepare.json_lines import JsonLines
from genjax.prepare.preparation import Change, Outcome, Preparation
from genjax.prepare.readers import Csv, Parquet, Texts
from genjax.prepare.run import prepare
from genjax.prepare.stage import CHANGED
from genjax.prepare.stages.anonymous import Anonymous
from genjax.prepare.stages.texts import StandardText
from genjax.prepare.stages.values import Missing

PRIVATE = (
    "ann.lee@example.org",
    "+49 30 1234567",
    "4111 1111 1111 1111",
    "DE89370400440532013000",
    "10.20.30.40",
)


def counted(stage, **columns):
    """What a row stage says that it has changed, in all rows together: {what: [times,
    examples]}.
    """
    table, _ = stage.rows(pa.table(columns))
    if CHANGED not in table.column_names:
        return {}
    found = {}
    for row in table[CHANGED].to_pylist():
        for what, times, example in json.loads(row or "[]"):
            known = found.setdefault(what, [0, []])
            known[0] += times
            known[1] += [example] if example else []
    return found


def test_the_standard_form_of_a_text_counts_what_it_changes():
    texts = [
        "as it is",
        "cafe\u0301",
        "a\x0bb\r\nc",
        "x\u200by\x00",
        "two  blanks ",
        "hyphen-\nated",
        None,
    ]
    assert counted(StandardText(join_hyphenated=True), text=texts) == {
        "texts converted to Unicode NFC": [1, []],
        "line ends of other kinds replaced": [2, []],
        "control characters removed": [2, []],
        "texts whose blanks were replaced or removed": [1, []],
        "divided words joined": [1, []],
    }
    assert counted(Missing(fill=(("text", "?"),)), text=["a", " ", None]) == {
        "missing values of 'text' filled": [2, []]
    }


def anonymised(text):
    """The text that is left, and what was done."""
    told = []
    found = Anonymous().anonymise_text(text, report=lambda what, form: told.append((what, form)))
    return found, told


@pytest.mark.parametrize(
    ("text", "kind", "sure", "form"),
    [
        (PRIVATE[0], "email", "known by its form only", "aaa.aaa@aaaaaaa.aaa"),
        (PRIVATE[1], "phone", "known by its form only", "+00 00 0000000"),
        (PRIVATE[2], "card", "checked by its check digit", "0000 0000 0000 0000"),
        (PRIVATE[3], "iban", "checked by its check digits", "aa00000000000000000000"),
        (PRIVATE[4], "ip", "a valid address", "00.00.00.00"),
        ("https://x.org/~ann?q=1", "url", "known by its form only", "aaaaa://a.aaa/?aaa?a=0"),
        (
            "http://" + 9 * "long-",
            "url",
            "known by its form only",
            "aaaa://aaaa-aaaa-aaaa-aaaa-aa…",
        ),
        ("mäx@müller.de", "email", "known by its form only", "aaa@aaaaaa.aa"),
    ],
)
def test_personal_data_are_counted_by_kind_with_how_sure_it_is_and_their_form(
    text, kind, sure, form
):
    found, told = anonymised(f"see {text} there")
    assert found == f"see <{kind}> there" and told == [(f"{kind} replaced, {sure}", form)]


def test_what_has_the_form_but_is_left_is_counted():
    text, told = anonymised("order no. 0301234567 and 030 1234567 + 5")
    assert "<" not in text
    assert [what for what, _ in told] == [
        "phone unchanged after a word that names another kind of number",
        "phone unchanged in a formula",
    ]


def test_a_card_counts_what_was_passed_over_and_changed_and_shows_nothing_private(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_bytes(
        b"\xef\xbb\xbfhello\n\n\ncaf\xe9\n"
        + "".join(f"at {value}, {n}\n" for n, value in enumerate(PRIVATE)).encode()
    )
    (raw / "b.txt").write_bytes(b"na\xefve\n")
    records = [{"text": "x \ud83d y", "id": 7}, {"text": None}, {"text": 5}, {"tags": ["a"]}]
    (raw / "b.jsonl").write_text("\n\n".join(map(json.dumps, records)))
    (raw / "c.csv").write_text('text, n\n"a, b", 1\n\n, 2\n')
    pq.write_table(pa.table({"text": [1.5, float("nan")]}), raw / "d.parquet")
    root = str(raw)
    readers = (
        Texts(("*.txt",), root, "lines", ("utf-8", "latin-1")),
        JsonLines(("*.jsonl",), root),
        Csv(("*.csv",), root, ("text",)),
        Parquet(("*.parquet",), root),
    )
    said = []
    made = Preparation(readers, (StandardText(), Anonymous()), max_bad=0.9)
    manifest = json.loads(prepare(made, "x", tmp_path / "out", say=said.append).read_text())
    read, _, anonymous = (stage["changed"] for stage in manifest["stages"])
    assert read == {
        MARKS: 1,
        EMPTY_LINES: 2 + 3 + 1,
        "empty values read as null": 1,
        "fields 'id' of a record skipped": 1,
        "fields 'tags' of a record skipped": 1,
        HALVES: 1,
        "numbers that are NaN read as null": 1,
        "rows without the blanks after their delimiters": 2,
        "texts read as latin-1, as they are not utf-8": 2,
        "values of 'text' that are missing or null": 2,
        "values of 'text' that are not text written as JSON": 1,
    }
    assert sum(anonymous.values()) == len(PRIVATE)
    assert len(said) == 3 and "; 1 byte order marks" in said[0] and "1 email replaced" in said[2]
    text = (tmp_path / "out" / card.CARD).read_text()
    assert f"| read | {EMPTY_LINES} | 6 in 3 files |  |" in text
    assert "| read | texts read as latin-1, as they are not utf-8 | 2 in 2 files |  |" in text
    assert (
        "| Anonymous | card replaced, checked by its check digit | 1 | `0000 0000 0000 0000` |"
        in text
    )
    everything = "".join(
        path.read_text() for path in (tmp_path / "out").glob("*.*") if path.suffix != ".parquet"
    )
    assert not any(value in everything + "".join(said) for value in PRIVATE)
    (shard,) = (tmp_path / "out").glob("*.parquet")
    assert pq.read_schema(shard).names == ["id", "source", "text"]
    said.clear()
    prepare(made, "x", tmp_path / "out", say=said.append)
    assert (
        tmp_path / "out" / card.CARD
    ).read_text() == text  # what was done is kept with the stages


def test_a_card_shows_the_commonest_of_many_changes_in_one_line_each():
    changed = {
        f"kind | {n}\nof {n}": Change(n, examples=("0|0",)) for n in range(1, card.KINDS + 11)
    }
    lines = card._changed([Outcome("read", 1, {}, {}, "", True, {}, changed)])
    assert len(lines) == 5 + card.KINDS + 1
    assert (
        lines[5]
        == f"| read | kind \\| {card.KINDS + 10} of {card.KINDS + 10} | {card.KINDS + 10} | "
        "`0\\|0` |"
    )
    assert lines[-1] == f"| read | 10 other things | {sum(range(1, 11))} | |"
