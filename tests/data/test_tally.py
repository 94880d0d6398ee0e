import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genjax.data.sources import Chorales, Instructions, Preferences, SentencePairs, TextPairs
from genjax.data.sources.table import Table
from genjax.data.sources.text import TextFiles, TextTables
from genjax.data.tally import (
    EMPTY_LINES,
    EMPTY_TEXTS,
    HALVES,
    MARKS,
    SHOWN,
    UNKNOWN_TOKENS,
    Tally,
    format_counts,
)
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments, ByFiles
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError


def test_a_file_that_is_read_again_counts_once_and_of_two_readings_the_longer_one():
    tally = Tally()
    for stop in (3, 5, 1):
        with tally.reading("a") as left:
            left[EMPTY_LINES] += stop
    with pytest.raises(RuntimeError), tally.reading("b") as left:
        left[EMPTY_LINES] += 2
        left[MARKS] += 1
        raise RuntimeError
    assert tally.total == {MARKS: 1, EMPTY_LINES: 7}


def test_counts_are_kept_beside_the_cache_and_a_damaged_file_of_them_costs_nothing(
    tmp_path, capsys
):
    first, second, third = Tally(), Tally(), Tally()
    first.add("a", {EMPTY_LINES: 2})
    first.keep(tmp_path / "x.json")
    second.keep(tmp_path / "x.json")
    assert second.total == first.total == {EMPTY_LINES: 2}
    for content in ("[" * 100_000, "3", '{"a": 3}', '{"a": {"b": "c"}}', "{"):
        (tmp_path / "x.json").write_text(content)
        third.keep(tmp_path / "x.json")
    assert third.total == {} and third.remarks("t") == ()
    assert second.remarks("t") == (f"t: 2 {EMPTY_LINES}",)
    assert capsys.readouterr().err == f"t: 2 {EMPTY_LINES}\n"


def test_of_many_kinds_the_largest_are_said():
    line = format_counts({f"k{number:02d}": number for number in range(30)})
    assert line.count(", ") == SHOWN and "29 k29" in line and "k17" not in line
    assert line.endswith(f"{sum(range(18)):,} of 17 other kinds")
    assert format_counts({"nothing": 0}) == ""


@pytest.mark.parametrize("split", [ByDocuments(test=0.3), ByFiles("b*")])
def test_text_files_count_empty_lines_and_marks_once_for_all_their_parts(tmp_path, capsys, split):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\n\ntwo\n\n\nthree\n")
    (tmp_path / "b.txt").write_bytes(b"\nfour\r\n\r\nfive")
    source = TextFiles(
        str(tmp_path),
        unit="lines",
        codec=Bytes(True),
        layout=Documents(8),
        split=split,
        cache=str(tmp_path / "c"),
    )
    for _ in range(2):  # read, and from the cache
        data = source.open()
        assert data.remarks == (capsys.readouterr().err.strip(),)
        assert data.remarks[0].endswith(f": 1 {MARKS}, 5 {EMPTY_LINES}")
    (tmp_path / "c.txt").touch()
    whole = TextFiles(
        str(tmp_path), codec=Bytes(), layout=Documents(8, long="split"), cache=str(tmp_path / "c")
    )
    assert whole.open().remarks[0].endswith(f": 1 {MARKS}, 1 empty files skipped")


def rows_of(tmp_path, name):
    """The texts of a source of tables, and what it counts."""
    source = TextTables(
        str(tmp_path / name), codec=Bytes(True), layout=Documents(40), cache=str(tmp_path / "c")
    )
    data = source.open()
    corpus = data.splits["train"].corpus
    texts = [data.codec.decode(corpus.document(number)) for number in range(len(corpus))]
    return texts, data.remarks[0].partition(": ")[2] if data.remarks else ""


def test_rows_without_text_are_counted_alike_in_every_kind_of_table(tmp_path):
    texts = ["one", "", None, "two", "x" * 30]
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in texts) + '\n{"other": 1}\n'
    )
    (tmp_path / "a.csv").write_text("n,text\n" + "".join(f"1,{text or ''}\n\n" for text in texts))
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    found = {name: rows_of(tmp_path, name) for name in ("a.jsonl", "a.csv", "a.parquet")}
    assert {name: texts[:2] for name, (texts, _) in found.items()} == {
        name: ["one", "two"] for name in found
    }
    assert [counts for _, counts in found.values()] == [
        f"3 {EMPTY_TEXTS}",
        f"5 {EMPTY_LINES}, 2 {EMPTY_TEXTS}",
        f"2 {EMPTY_TEXTS}",
    ]


def test_a_column_that_no_record_has_is_refused_with_those_that_there_are(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"txet": "a"}\n{"id": 1}\n')
    with pytest.raises(UserError, match=r"a\.jsonl: unknown column 'text'; did you mean 'txet'"):
        rows_of(tmp_path, "a.jsonl")


def test_fields_that_no_reader_takes_are_counted_by_their_names(tmp_path):
    records = [
        {"instruction": f"say {n}", "output": f"it {n}", "input": None, "id": n, "tags": []}
        for n in range(20)
    ]
    records[3]["output"] += "\ud83d"
    (tmp_path / "a.json").write_text(json.dumps(records))
    common = {
        "codec": Subwords("bpe", 300, end_token="<|endoftext|>"),
        "cache": str(tmp_path / "c"),
    }
    data = Instructions(str(tmp_path / "a.json"), **common).open()
    assert data.remarks == (
        "a.json: 20 fields 'id' of a record skipped, 20 fields 'input' that are null read as "
        f"empty, 1 {HALVES}",
    )
    pairs = [
        {"prompt": f"p {n}", "chosen": f"c {n}", "rejected": f"r {n}", "input": "x", "score": 1}
        for n in range(20)
    ]
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, pairs)))
    data = Preferences(str(tmp_path / "b.jsonl.gz"), **common).open()
    assert data.remarks == (
        "b.jsonl.gz: 20 fields 'input' of a record skipped, 20 fields 'score' of a record skipped",
    )


def test_a_table_says_what_it_passed_over_and_keeps_it(tmp_path, capsys):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfx,y\n1,a\n\n,b\n3,a\n4,b\n \n5,a\n")
    data = Table(str(tmp_path / "t.csv"), test_fraction=0).open()
    assert data.remarks == (
        f"t.csv: 5 rows, 2 columns; 1 {MARKS}, 2 {EMPTY_LINES}; values are missing, 1 in 'x'",
    )
    assert capsys.readouterr().err.strip() == data.remarks[0]


def test_nothing_is_said_where_nothing_was_passed_over(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    codec = Words(words=("one", "two", "three"))
    common = {"split": ByDocuments(test=0), "cache": str(tmp_path / "c")}
    source = TextFiles(str(tmp_path), unit="lines", codec=codec, layout=Documents(4), **common)
    assert source.open().remarks == () and capsys.readouterr().err == ""


def test_words_outside_the_vocabulary_are_counted_once_and_again_from_the_cache(tmp_path):
    (tmp_path / "a.txt").write_text("one two\nthree one four\n")
    for codec, count in (
        (Words(words=("one", "two")), 2),
        (Characters("\n enortw", unknown="token"), 3),
    ):
        common = {"codec": codec, "split": ByDocuments(test=0), "cache": str(tmp_path / "c")}
        for _ in range(2):
            data = TextFiles(str(tmp_path / "a.txt"), layout=Documents(40), **common).open()
            assert data.remarks == (f"{tmp_path / 'a.txt'}: {count} {UNKNOWN_TOKENS}",)
            assert data.splits["train"].corpus.unknown == count


def test_pairs_of_sentences_count_empty_lines_and_unknown_words_of_each_side(tmp_path):
    (tmp_path / "train.de").write_text("eins\n\nzwei\n")
    (tmp_path / "train.en").write_text("one\none\ntwo\n")
    files = {"train": "train", "validation": None, "test": None}
    codecs = {"source_codec": Words(words=("eins",)), "target_codec": Words(words=("one",))}
    data = SentencePairs(str(tmp_path), **files, **codecs, cache=str(tmp_path / "c")).open()
    assert data.remarks == (
        f"{tmp_path}: 1 de {UNKNOWN_TOKENS}, 1 empty lines read as blank sentences, 1 en "
        f"{UNKNOWN_TOKENS}",
    )


def test_generated_kinds_of_reading_count_as_well(tmp_path):
    (tmp_path / "train.de").write_text("eins\n\nzwei\n")
    (tmp_path / "train.en").write_text("one\none\ntwo\n")
    files = {"train": "train", "validation": None, "test": None}
    data = TextPairs(
        str(tmp_path), **files, codec=Bytes(delimiter=True), cache=str(tmp_path / "c")
    ).open()
    assert data.remarks == (f"{tmp_path}: 1 empty lines read as empty sentences",)
    pieces = [[[60, 60, 55], [60, 62]], [[70, 70, 70, 70]]]
    with gzip.open(tmp_path / "jsb_quarter.json.gz", "wt") as file:
        file.write(json.dumps({"train": pieces, "valid": pieces[:1], "test": pieces[1:]}))
    data = Chorales(str(tmp_path), layout=Documents(20)).open()
    assert data.remarks == ("jsb_quarter.json.gz: 8 notes of two voices at once read as one",)
