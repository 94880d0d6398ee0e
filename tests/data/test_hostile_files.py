"""Files of strangers: small ones that unpack to gigabytes, and JSON in every shape, some made
to break things.
"""

import bz2
import dataclasses
import gzip
import io
import json
import lzma
import zipfile
from collections import Counter

import numpy as np
import pytest

from genjax.data import compressed
from genjax.data.chat.records import parse_turns
from genjax.data.chat.template import ChatTemplate, Turn
from genjax.data.sources import Instructions
from genjax.data.sources.text import TextTables
from genjax.data.tally import HALVES
from genjax.data.text.documents import decode_file
from genjax.data.text.json_records import json_records
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.prepare.files import DAMAGED
from genjax.prepare.json_lines import JsonLines
from genjax.prepare.readers import Texts
from genjax.serial.json_text import parse

RECORDS = [{"instruction": f"say {n}", "input": None, "output": f"it is {n}"} for n in range(5)]
LINES = "\n".join(map(json.dumps, RECORDS))


@pytest.fixture
def little(monkeypatch):
    """Bounds that a test reaches without a gigabyte."""
    monkeypatch.setattr(compressed, "FREE", 2**16)
    monkeypatch.setattr(compressed, "RATIO", 20)


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return buffer.getvalue()


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zip": zipped}


@pytest.mark.parametrize("kind", PACKERS)
def test_what_a_preparation_unpacks_has_an_end(tmp_path, little, kind):
    (tmp_path / f"bomb.txt.{kind}").write_bytes(PACKERS[kind](b"0" * 2**22))
    (tmp_path / f"good.txt.{kind}").write_bytes(PACKERS[kind](b"tea and cake"))
    reader = Texts((f"*.txt.{kind}",), str(tmp_path))
    files = reader.find_files()
    bad, good = files.paths
    assert [found.values["text"] for found in reader.read(files, good)] == ["tea and cake"]
    with pytest.raises(DAMAGED, match="unpacks to more than [6-9].,... bytes.*unpack it yourself"):
        list(reader.read(files, bad))


def test_what_a_source_unpacks_has_an_end_and_an_honest_file_is_read_whole(tmp_path, little):
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b"0" * 2**22))
    read = 0
    with pytest.raises(UserError, match="unpacks to more than") as error:
        for text in decode_file(tmp_path / "bomb.txt.gz"):
            read += len(text)
    assert error.value.field == str(tmp_path / "bomb.txt.gz") and read <= 2**16
    noise = np.random.default_rng(0).integers(32, 127, 2**18, np.uint8).tobytes()
    (tmp_path / "good.txt.gz").write_bytes(gzip.compress(noise))
    assert "".join(decode_file(tmp_path / "good.txt.gz")).encode() == noise


def test_arrays_that_say_that_they_are_larger_than_their_bytes_are_refused(tmp_path, little):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(2**20))
    with pytest.raises(compressed.GrowsTooMuch):
        compressed.check_npz(tmp_path / "bomb.npz")
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    )
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as archive:
        archive.writestr("a.npy", buffer.getvalue())
    with pytest.raises(ValueError, match="claims to hold 1,000,000,000,000,000 values"):
        compressed.check_npz(tmp_path / "liar.npz")
    np.savez(tmp_path / "good.npz", a=np.arange(9), b=np.float32(1))
    compressed.check_npz(tmp_path / "good.npz")


HOSTILE = {
    "deep list": "[" * 100_000 + "]" * 100_000,
    "deep but closed": "[" * 300 + "]" * 300,
    "deep objects": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "open": "[" * 100_000,
    "digits": '{"a": ' + "9" * 5_000 + "}",
    "twice": '{"a": 1, "a": 2}',
    "not finite": '{"a": NaN}',
    "cut": '{"a": ',
    "control": '{"a": "\x00"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_one_line(tmp_path, name):
    with pytest.raises(UserError, match="^line 1 of some file is not JSON: .*") as error:
        parse(HOSTILE[name], "some file")
    assert "\n" not in str(error.value) and len(str(error.value)) < 200
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' + HOSTILE[name] + "\n")
    with pytest.raises(UserError, match="line 2 of a.jsonl is not JSON"):
        list(json_records(tmp_path / "a.jsonl"))
    reader = JsonLines(("a.jsonl",), str(tmp_path))
    files = reader.find_files()
    good, broken = reader.read(files, files.paths[0])
    assert (
        good.values == {"text": "good"}
        and broken.place == "line-000000002"
        and "broken JSON" in broken.fault
    )


SHAPES = {
    "lines": LINES.encode(),
    "last line with its end": LINES.encode() + b"\n",
    "windows": b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode(),
    "old mac": LINES.replace("\n", "\r").encode(),
    "blank lines": b"\n \n" + LINES.replace("\n", "\n\n\t\n").encode() + b"\n\n",
    "side by side": LINES.replace("\n", "").encode(),
    "list": json.dumps(RECORDS).encode(),
    "list over lines": json.dumps(RECORDS, indent=2).encode(),
    "objects over lines": "\n".join(json.dumps(record, indent=1) for record in RECORDS).encode(),
    "utf-16": LINES.encode("utf-16"),
    "utf-16 list": json.dumps(RECORDS).encode("utf-16-be"),
    "utf-32": LINES.encode("utf-32"),
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.NDJSON", "a.json.gz"])
@pytest.mark.parametrize("shape", SHAPES)
def test_records_are_read_by_what_a_file_holds_not_by_its_name(tmp_path, shape, name):
    content = SHAPES[shape]
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert [record for _, record in json_records(tmp_path / name)] == RECORDS
    reader = JsonLines((name,), str(tmp_path), ("instruction", "input", "output"))
    files = reader.find_files()
    found = list(reader.read(files, files.paths[0]))
    assert [each.values for each in found] == RECORDS and not any(each.fault for each in found)
    assert sorted(each.place for each in found) == [each.place for each in found]


def test_half_an_emoji_is_replaced_and_said(tmp_path, capsys):
    rows = [
        r'{"text": "tea \ud83d\ude00 and cake"}',
        r'{"text": "cut \ud83d"}',
        '{"text": "bread"}',
    ] * 2
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    left = Counter()
    texts = [record["text"] for _, record in json_records(tmp_path / "a.jsonl", left=left)]
    assert texts == ["tea \U0001f600 and cake", "cut \N{REPLACEMENT CHARACTER}", "bread"] * 2
    assert left == {HALVES: 2}
    source = TextTables(
        str(tmp_path / "a.jsonl"), codec=Subwords("bpe", 270), cache=str(tmp_path / "cache")
    )
    data = dataclasses.replace(source, layout=Documents(40), split=ByDocuments(test=0.34))
    assert data.open().spec.vocabulary >= 257
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1 and f"a.jsonl: 2 {HALVES}" in said
    )  # read several times, counted once
    assert data.open().remarks == (said.strip(),)  # from the cache
    reader, counts = JsonLines(("a.jsonl",), str(tmp_path)), Counter()
    files = reader.find_files()
    assert [found.values["text"] for found in reader.read(files, files.paths[0], counts)] == texts
    assert +counts == {HALVES: 2}


def test_the_three_forms_of_conversations_give_the_same_turns(tmp_path, capsys):
    template = ChatTemplate()
    wanted = (Turn("system", "Be kind."), Turn("user", "hi"), Turn("assistant", "ho"))
    openai = [dict(zip(("role", "content"), turn, strict=True)) for turn in wanted]
    parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in wanted]
    sharegpt = [
        {"from": n, "value": t}
        for n, (_, t) in zip(("system", "human", "gpt"), wanted, strict=True)
    ]
    alpaca = {"system": "Be kind.", "instruction": "hi", "input": None, "output": "ho"}
    records = [{"messages": openai}, {"messages": parts}, {"conversations": sharegpt}, alpaca]
    for record in records:
        assert parse_turns(record, "here", template, "|", Counter()) == wanted
    named = {
        "messages": [openai[1] | {"name": "Ann"}, openai[2] | {"tool_calls": None}],
        "conversations": None,
    }
    (tmp_path / "a.json").write_text("\n".join(map(json.dumps, [*records, named])))
    Instructions(
        str(tmp_path / "a.json"), codec=Subwords("bpe", 280), cache=str(tmp_path / "c")
    ).open()
    assert (
        "a.json: 1 fields 'input' that are null read as empty, 1 fields 'name' of a message "
        "skipped" in capsys.readouterr().err
    )
    for bad in ([{"type": "image_url", "image_url": "x"}], [3], 3):
        with pytest.raises(UserError, match="content.? of message 1 of here must"):
            parse_turns(
                {"messages": [{"role": "user", "content": bad}]}, "here", template, "|", Counter()
            )
