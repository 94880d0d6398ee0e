"""Words of every script, blanks, bytes and short items: what differs stays apart, and nothing
fuses or vanishes.
"""

import json

import daft
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genjax.errors import UserError
from genjax.prepare import run as preparing
from genjax.prepare.matching.minhash import MinHash
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Parquet, Texts
from genjax.prepare.stages.duplicates import ExactDuplicates
from genjax.prepare.stages.splits import Decontaminated
from genjax.prepare.stages.texts import BlockedWords, StandardText

SUMS = [f"What is {a} {sign} {b}?" for a in range(20, 25) for sign in "+-*/" for b in (1, 2, 3)]
DIFFERENT = [
    *SUMS,
    *(
        "if x == 1: stop()",
        "if x != 1: stop()",
        "राम घर गया",
        "राम घर गयी",
        "1.5 m",
        "15 m",
        "1 5 m",
    ),
    *(
        "f(x)",
        "f[x]",
        "x²",
        "x2",
        "€5",
        "$5",
        "5",
        "5!",
        "4 < 5",
        "4 > 5",
        "כָּתַב",
        "כֹּתֵב",
        "👍🏽",
        "👍🏿",
        "👍",
    ),
]


def rows_of(reader):
    files = reader.find_files()
    return reader.read(files, files.paths[0])


def test_different_lines_are_no_duplicates():
    frame = daft.from_pydict({"id": [f"{i:03d}" for i in range(len(DIFFERENT))], "text": DIFFERENT})
    assert ExactDuplicates()(frame).to_pydict()["reason"] == [None] * len(DIFFERENT)
    minhash = MinHash(16)
    rows = frame.select(minhash.sign(daft.col("text"))).to_arrow()["text"].chunks
    assert len(np.unique(minhash.stack_signatures(rows), axis=0)) == len(DIFFERENT)


def test_blocked_words_keep_their_marks_and_are_found_in_scripts_without_spaces(judged):
    texts = ["राम घर गया", "राम घर गयी", "THE CAFE\u0301", "cafeteria", "这很坏的", "x bad\nword y"]
    found = judged(BlockedWords(("गय", "caf\u00e9", "坏", "bad word")), text=texts)[1]
    assert [reason is not None for reason in found] == [False, False, True, False, True, True]


@pytest.mark.parametrize("lines", [True, False])
def test_no_blank_lets_words_fuse(judged, lines):
    blanks = [chr(i) for i in range(0x110000) if chr(i).isspace()]
    texts = [f"one{blank}two" for blank in blanks]
    found = judged(StandardText(keep_lines=lines), text=texts)[0]["text"].to_pylist()
    assert len(blanks) > 25 and all(
        text.split() == ["one", "two"] and len(text) == 7 for text in found
    )
    assert set(found) == ({"one two", "one\ntwo"} if lines else {"one two"})
    assert judged(StandardText(), text=["a\u200bb\x00c\ufeff \u0915\u094d\u200d\u0937"])[0][
        "text"
    ].to_pylist() == ["abc \u0915\u094d\u200d\u0937"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary(5),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.binary_view(),
    ],
    ids=str,
)
def test_bytes_in_parquet_are_text(tmp_path, kind):
    column = pa.array(["café".encode(), None], pa.binary())
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    try:
        pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    except pa.ArrowNotImplementedError:
        pytest.skip(f"this pyarrow writes no {kind}")
    reader = Parquet(("a.parquet",), str(tmp_path))
    assert [found.values["text"] for found in rows_of(reader)] == ["café", None]


def test_nested_bytes_and_other_encodings_in_parquet(tmp_path):
    table = {"text": [b"caf\xe9", "é".encode()], "more": [[b"a", None], [b"b"]], "n": [1, None]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    plain = Parquet(("a.parquet",), str(tmp_path), ("text", "more", "n"))
    first, second = rows_of(plain)
    assert first.fault == "not in utf-8" and second.values == {
        "text": "é",
        "more": '["b"]',
        "n": None,
    }
    mixed = Parquet(("a.parquet",), str(tmp_path), encodings=("utf-8", "cp1252"))
    assert [found.values["text"] for found in rows_of(mixed)] == ["café", "é"]


def test_short_items_to_judge_by_are_left_out_and_counted(tmp_path):
    long = "was the harvest of nineteen eleven better in the high valley than that of ten"
    train = [f"yes, letter {i} says so" for i in range(9)] + [f"He asked: {long}?"]
    (tmp_path / "train.txt").write_text("\n".join(train))
    (tmp_path / "judge.txt").write_text(f"{long}\nyes\nletter 7\n...")
    root = str(tmp_path)
    stage = Decontaminated((Texts(("judge.txt",), root, "lines"),))
    pipeline = Preparation((Texts(("train.txt",), root, "lines"),), (stage,))
    manifest = json.loads(preparing.prepare(pipeline, "x", tmp_path / "out", say=str).read_text())
    assert manifest["stages"][1]["dropped"] == {"in an evaluation set": 1}
    assert (
        "3 of 4 evaluation texts have fewer than 13 words"
        in (tmp_path / "out" / "card.md").read_text()
    )
    with pytest.raises(UserError) as error:
        Decontaminated((1,), least=0)
    assert error.value.field == "least"
