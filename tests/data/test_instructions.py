"""Sources of conversations: exact counts, rows, splits, and bad records by their name."""

import dataclasses
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from genjax.data.chat.template import ChatCodec, ChatTemplate
from genjax.data.sources import Instructions, TextPairs
from genjax.data.text.codecs import Bytes, Characters
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError

CODEC = Characters(delimiter=True)
TEMPLATE = ChatTemplate((("system", "", "\n"), ("user", "Q:", "\n"), ("assistant", "A:", "\n")))
ALL = ByDocuments(test=0.0)
REAL = Path(os.environ.get("GENJAX_DATA", "nowhere")) / "instruct" / "instruction_data_1100.json"
ALPACA = [
    {"instruction": "add", "input": "1 2", "output": "3"},
    {"instruction": "say a", "output": "a"},
    {"instruction": "say b", "input": "", "output": "bb", "system": "Be kind."},
]
CHAT = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "hi hi"},
        {"role": "assistant", "content": "ho ho"},
    ]
}


def source(folder, records, name="some.json", **fields):
    """Records or a text in a file."""
    by_line = "jsonl" in name
    text = "\n".join(map(json.dumps, records)) if by_line else json.dumps(records)
    text = (records if isinstance(records, str) else text).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    told = {"template": TEMPLATE, "joint": "|", "codec": CODEC, "length": 40, "split": ALL} | fields
    return Instructions(str(folder), name, cache=str(folder / "cache"), **told)


def texts(data, part="train"):
    """What rows say, and what of it is learned."""
    rows = data.splits[part].batch(np.arange(len(data.splits[part])))
    real = rows["loss_mask"] + rows["prefix_mask"] > 0
    said = [data.codec.decode(row[mask]) for row, mask in zip(rows["tokens"], real, strict=True)]
    return said, [
        data.codec.decode(r[m > 0]) for r, m in zip(rows["tokens"], rows["loss_mask"], strict=True)
    ]


@pytest.mark.parametrize("name", ["some.json", "some.jsonl", "some.json.gz", "some.jsonl.gz"])
def test_records_become_rows(tmp_path, name):
    data = source(tmp_path, ALPACA, name).open()
    end = data.codec.decode(np.array([data.codec.end]))
    said, learned = texts(data)
    assert [text.removeprefix(end).removesuffix(end) for text in said] == [
        "Q:add|1 2\nA:3",
        "Q:say a\nA:a",
        "Be kind.\nQ:say b\nA:bb",
    ]
    assert learned == [f"3{end}", f"a{end}", f"bb{end}"]
    assert data.splits["train"].references() == ["3", "a", "bb"]
    assert data.splits["train"].questions() == ["add|1 2", "say a", "say b"]
    assert isinstance(data.codec, ChatCodec) and data.codec.template == TEMPLATE
    assert (
        data.spec.prefixed
        and not data.spec.packed
        and data.spec.vocabulary == data.codec.vocabulary
    )
    rows = data.splits["train"].batch(np.array([1]))
    shapes = {
        entry: (shape, kind)
        for entry, (shape, kind) in data.spec.entries.items()
        if entry != "mask"
    }
    assert {entry: (array.shape[1:], array.dtype.type) for entry, array in rows.items()} == shapes
    assert source(tmp_path, ALPACA, name).open().fingerprint == data.fingerprint
    assert source(tmp_path, ALPACA[:2], name).open().fingerprint != data.fingerprint


def test_of_a_conversation_each_answer_is_learned(tmp_path):
    data = source(tmp_path, [CHAT], "some.jsonl").open()
    rows = data.splits["train"].batch(np.array([0]))
    end = data.codec.decode(np.array([data.codec.end]))
    assert texts(data)[1] == [f"ho{end}ho ho{end}"]
    first = int(rows["loss_mask"][0].argmax())
    assert rows["prefix_mask"][0].tolist() == [1.0] * first + [0.0] * (41 - first)
    assert data.splits["train"].references() == ["ho"], (
        "the prompt of a row is that of its first answer"
    )


def test_packed_rows_hold_each_conversation_once_and_held_out_ones_a_row_each(tmp_path):
    records = [{"instruction": "x" * (1 + n % 5), "output": "y" * (1 + n % 7)} for n in range(40)]
    split = ByDocuments(test=0.2, validation=0.1, seed=3)
    packed = source(tmp_path, records, packed=True, split=split).open()
    plain = source(tmp_path, records, split=split).open()
    assert {part: len(rows) for part, rows in plain.splits.items()} == {
        "train": 28,
        "validation": 4,
        "test": 8,
    }
    assert len(packed.splits["train"]) < 28 / 2 and len(packed.splits["test"]) == 8
    assert packed.spec.packed

    def counted(data, part):
        rows = data.splits[part].batch(np.arange(len(data.splits[part])))
        ids = rows.get("segment_ids", np.ones_like(rows["tokens"]))
        found = []
        for row in range(len(ids)):
            for segment in range(1, ids[row].max() + 1):
                at = ids[row] == segment
                if "positions" in rows:
                    np.testing.assert_array_equal(rows["positions"][row][at], np.arange(at.sum()))
                learned, given = (rows[name][row][at] > 0 for name in ("loss_mask", "prefix_mask"))
                assert not (learned & given).any()
                found.append(
                    (*rows["tokens"][row][at][given], -1, *rows["tokens"][row][at][learned])
                )
            assert not rows["loss_mask"][row][ids[row] == 0].any()
        return sorted(found)

    for part in ("train", "validation", "test"):
        assert counted(packed, part) == counted(plain, part)
    learned = sum(len(record["output"]) + 1 for record in records)
    splits = plain.splits.values()
    assert sum(rows.batch(np.arange(len(rows)))["loss_mask"].sum() for rows in splits) == learned
    with pytest.raises(UserError, match="packed must be False"):
        packed.splits["train"].references()
    assert packed.splits["test"].references() == plain.splits["test"].references()


def test_splits_are_disjoint_and_follow_the_seed(tmp_path):
    records = [{"instruction": "q", "output": f"{n:03d}"} for n in range(50)]

    def parts(seed):
        split = ByDocuments(test=0.2, validation=0.2, seed=seed)
        return {
            part: rows.references()
            for part, rows in source(tmp_path, records, split=split).open().splits.items()
        }

    one, same, other = parts(1), parts(1), parts(2)
    assert one == same and one["test"] != other["test"]
    assert sorted(answer for part in one.values() for answer in part) == [
        f"{n:03d}" for n in range(50)
    ]
    assert [len(one[part]) for part in ("train", "validation", "test")] == [30, 10, 10]


def test_a_vocabulary_is_of_the_training_text_and_one_that_is_there_is_kept(tmp_path):
    split = ByDocuments(test=0.5, seed=0)
    records = [{"instruction": "q", "output": letter} for letter in "ab"]
    with pytest.raises(UserError, match="record . of some.json is not in the vocabulary"):
        source(tmp_path, records, split=split).open()
    codec = CODEC.fit(["ABQ:\nqabcdef"])
    data = source(tmp_path, records, split=split, codec=codec).open()
    assert data.codec == ChatCodec(codec, TEMPLATE)


def test_long_conversations_are_dropped_or_cut_and_told(tmp_path, capsys):
    records = [
        {"instruction": "x", "output": "y" * 6},
        {"instruction": "x", "output": "y" * 30},
        {"instruction": "x", "output": "z"},
    ]
    start = int(CODEC.fit("a").start is not None)
    length = start + 6 + 7 - 1  # the first fits to the token
    data = source(tmp_path, records, length=length).open()
    assert data.splits["train"].references() == ["y" * 6, "z"]
    told = f"1 of 3 conversations are longer than {length + 1} tokens and are dropped"
    assert told in capsys.readouterr().err
    cut = source(tmp_path, records[:2], length=length, long="cut").open()
    assert "0 lose the beginning of their prompt, 1 their end" in capsys.readouterr().err
    rows = cut.splits["train"].batch(np.arange(2))
    assert (rows["prefix_mask"].sum(1) == start + 6).all() and (rows["loss_mask"].sum(1) == 7).all()
    assert rows["tokens"][0, -1] == cut.codec.end != rows["tokens"][1, -1], (
        "a cut answer does not end"
    )


def test_a_prompt_that_fills_its_row_loses_its_beginning(tmp_path, capsys):
    asked = "".join(chr(97 + n % 26) for n in range(40))
    data = source(tmp_path, [{"instruction": asked, "output": "ok"}], length=19, long="cut").open()
    assert "1 lose the beginning of their prompt, 0 their end" in capsys.readouterr().err
    row = data.splits["train"].batch(np.array([0]))
    assert row["tokens"][0, 0] == data.codec.tokens.start
    end = data.codec.decode(np.array([data.codec.end]))
    assert data.codec.decode(row["tokens"][0, 1:]) == f"{asked}\nA:"[-16:] + f"ok{end}"
    assert row["prefix_mask"][0].tolist() == [1.0] * 17 + [0.0] * 3


def test_a_set_that_would_lose_most_conversations_is_refused_with_what_to_change(tmp_path):
    records = [{"instruction": "x", "output": "y" * n} for n in range(1, 101)]
    with pytest.raises(UserError, match="of 100 conversations are longer than 30") as error:
        source(tmp_path, records, length=29).open()
    assert error.value.field == "length" and 'long="cut"' in str(error.value)
    length = int(str(error.value).split("length=")[1].split()[0])
    assert len(source(tmp_path, records, length=length).open().splits["train"]) == 96


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [ALPACA[0], {"instruction": "x", "output": ""}],
            "record 2 of some.json has an empty response",
        ),
        (
            [ALPACA[0], {"instruction": "x", "output": None}],
            "record 2 of some.json has an empty response",
        ),
        (
            [{"instruction": "x"}],
            "record 1 of some.json must have messages, instruction and output, .*, got instruct",
        ),
        ([{}], "record 1 of some.json must have messages, instruction and output, .*, got none"),
        ([ALPACA[0], "x"], "record 2 of some.json must be a JSON object"),
        (
            [{"instruction": "x", "output": 3}],
            "'output' of record 1 of some.json must be a text, got int",
        ),
        ([{"messages": "x"}], "messages of record 1 of some.json must be a list"),
        ([{"messages": []}], "record 1 of some.json must end with a turn of the assistant"),
        (
            [{"messages": CHAT["messages"][:4]}],
            "record 1 of some.json must end with a turn of the assistant",
        ),
        (
            [CHAT, {"messages": [{"role": "user"}]}],
            "message 1 of record 2 of some.json must have role and content",
        ),
        (
            [{"messages": [{"role": 1, "content": ""}]}],
            "'role' of message 1 of record 1 of some.json must be a text, got int",
        ),
        (
            [
                {
                    "messages": [
                        {"role": "tool", "content": "x"},
                        {"role": "assistant", "content": "y"},
                    ]
                }
            ],
            "record 1 of some.json: the chat template has no role 'tool'; its roles are system, "
            "user, assistant",
        ),
        (
            '[{"instruction": "x",\n "output": "y"},\n {"instruction" "x"}]',
            "line 3 of some.json is not JSON",
        ),
        (
            {"data": []},
            "line 1 of some.json must have messages, instruction and output, .*, got data",
        ),
        ([], "some.json holds no records"),
    ],
)
def test_bad_records_are_named(tmp_path, records, message):
    with pytest.raises(UserError, match=message):
        source(tmp_path, records).open()


def test_bad_files_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="line 2 of some.jsonl is not JSON"):
        source(tmp_path, json.dumps(ALPACA[1]) + '\n{"instruction": \n', "some.jsonl").open()
    with pytest.raises(UserError, match="there is no file .*missing.json"):
        Instructions(str(tmp_path), "missing.json").open()
    with pytest.raises(UserError, match="some.txt must end in .json"):
        source(tmp_path, ALPACA, "some.txt").open()
    with pytest.raises(UserError, match="must have an end token"):
        source(tmp_path, ALPACA, codec=Subwords("bpe", 300, end_token=None)).open()
    for wrong in ({"length": 0}, {"long": "split"}):
        with pytest.raises(UserError, match=f"^{next(iter(wrong))} must be"):
            Instructions(**wrong)


def test_the_1100_records_are_counted_exactly():
    if not REAL.exists():
        pytest.skip(f"there is no {REAL}: set GENJAX_DATA")
    records = json.loads(REAL.read_text())
    data = Instructions(codec=Bytes(delimiter=True), length=400).open()
    assert {part: len(rows) for part, rows in data.splits.items()} == {"train": 990, "test": 110}
    answers = [answer for rows in data.splits.values() for answer in rows.references()]
    assert sorted(answers) == sorted(record["output"] for record in records)
    learned = sum(rows.learned.sum() for rows in data.splits.values())
    assert (
        learned == sum(len(record["output"].encode()) + 1 for record in records) == 53_387 + 1_100
    )
    template = len("### Instruction:\n\n\n### Response:\n")
    given = sum(
        template
        + len((r["instruction"] + r["input"]).encode())
        + len("\n\n### Input:\n") * bool(r["input"])
        for r in records
    )
    start = 1_100 * (data.codec.start is not None)
    assert sum(len(rows.tokens) for rows in data.splits.values()) == given + learned + start


def test_pairs_of_sentences_become_conversations(tmp_path):
    draw = np.random.default_rng(0)
    for part, size in (("train", 40), ("val", 9), ("test_2016_flickr", 9)):
        numbers = draw.integers(0, 9, size).tolist()
        for language, words in (("de", ("ein mann", "steht")), ("en", ("a man", "stands"))):
            lines = [" ".join([words[0]] * (1 + n % 3) + [words[1]] * (n // 3)) for n in numbers]
            (tmp_path / f"{part}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = TextPairs(str(tmp_path), codec=CODEC, length=200, cache=str(tmp_path)).open()
    assert {part: len(rows) for part, rows in data.splits.items()} == {
        "train": 40,
        "validation": 9,
        "test": 9,
    }
    written = (tmp_path / "test_2016_flickr.en").read_text(encoding="utf-8").splitlines()
    german = (tmp_path / "test_2016_flickr.de").read_text(encoding="utf-8").splitlines()
    assert data.splits["test"].references() == written
    said, learned = texts(data, "test")
    end = data.codec.decode(np.array([data.codec.end]))
    assert learned == [sentence + end for sentence in written]
    prompts = [
        f"### Instruction:\nTranslate to English: {sentence}\n\n### Response:\n"
        for sentence in german
    ]
    assert [s.removeprefix(end) for s in said] == [
        p + w + end for p, w in zip(prompts, written, strict=True)
    ]


def test_bad_pairs_are_named(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.de").write_text("ein hund\neine katze\n")
        (tmp_path / f"{part}.en").write_text("a dog\n \n" if part == "test" else "a dog\na cat\n")
    pairs = TextPairs(str(tmp_path), validation=None, test="test", codec=CODEC, cache=str(tmp_path))
    with pytest.raises(UserError, match="line 2 of test.en has an empty response"):
        pairs.open()
    (tmp_path / "test.en").write_text("a dog\n")
    with pytest.raises(UserError, match="test.en must have the same number of lines, got 2 and 1"):
        pairs.open()
    for part in ("train", "test"):
        for language in ("de", "en"):
            (tmp_path / f"{part}.{language}").write_text("")
    with pytest.raises(UserError, match="train must have a conversation, got none"):
        dataclasses.replace(pairs, codec=Bytes(delimiter=True), long="cut").open()
    with pytest.raises(UserError, match="there is no file .*val.de"):
        TextPairs(str(tmp_path)).open()
    with pytest.raises(UserError, match="contain {source}, got 'Translate'"):
        TextPairs(prompt="Translate")
