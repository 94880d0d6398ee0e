"""Records of JSON to all readers of such: the same records, or one line that names the place
and the reason.
"""

import json
import random
from collections import Counter

import pytest

from genjax.data.sources import Instructions, Preferences
from genjax.data.sources.text import TextTables
from genjax.data.text.codecs import Bytes
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.errors import UserError
from genjax.prepare.json_lines import JsonLines

FIELDS = ("instruction", "output", "prompt", "chosen", "rejected", "text")
PIECES = [
    "a",
    "é",
    "漢",
    "😀",
    '"',
    "\\",
    "/",
    "\n",
    "\t",
    "\x00",
    "\u2028",
    "\x7f",
    " ",
    "{",
    "[",
    ",",
    "\ufeff",
    "ß",
]


def records(draw):
    """Records with a text in every field that some reader takes."""
    return [
        {field: f"{n}" + "".join(draw.choices(PIECES, k=6)) for field in FIELDS} for n in range(12)
    ]


def shapes(found, draw):
    """The same records in every form in which they are written."""
    ascii_only = draw.random() < 0.5
    line = [json.dumps(record, ensure_ascii=ascii_only) for record in found]
    tall = [json.dumps(record, ensure_ascii=ascii_only, indent=1) for record in found]
    yield from (
        "\n".join(line),
        "\r\n".join(line) + "\r\n",
        "\n \n\n".join(line) + "\n\n",
        "".join(line),
        " ".join(line),
    )
    yield from (
        "[" + ",".join(line) + "]",
        "[\n" + ",\n".join(tall) + "\n]\n",
        "\n\n [" + " , ".join(line) + "] \n",
    )
    yield from ("\n".join(tall), "\n\n".join(tall) + "\n")


def read(path):
    """What each reader makes of a file: the texts of the fields that it takes."""
    common = {"cache": str(path.parent / "cache"), "split": ByDocuments(test=0)}
    codec = Bytes(delimiter=True)
    table = TextTables(str(path), codec=codec, layout=Documents(200), **common).open()
    corpus = table.splits["train"].corpus
    yield [{"text": table.codec.decode(corpus.document(number))} for number in range(len(corpus))]
    chats = Instructions(str(path), codec=codec, length=400, **common).open().splits["train"]
    asked = [text.removeprefix("\n") for text in chats.questions()]
    yield [{"instruction": q, "output": a} for q, a in zip(asked, chats.references(), strict=True)]
    pairs = Preferences(str(path), codec=codec, length=400, **common).open()
    yield [{} for _ in range(len(pairs.splits["train"]))]
    reader = JsonLines((path.name,), str(path.parent), FIELDS)
    files = reader.find_files()
    found = list(reader.read(files, files.paths[0]))
    assert not [one.fault for one in found if one.fault]
    yield [one.values for one in found]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_every_shape_gives_every_reader_the_same_records(tmp_path, name, encoding):
    draw = random.Random(f"{name} {encoding}")
    wanted = records(draw)
    for text in draw.sample(list(shapes(wanted, draw)), 3):
        (tmp_path / name).write_bytes(text.encode(encoding))
        for found in read(tmp_path / name):
            assert found == [
                {field: record[field] for field in part}
                for record, part in zip(wanted, found, strict=True)
            ]


def test_one_object_is_one_record(tmp_path):
    (record, *_) = records(random.Random(1))
    for text in (json.dumps(record), json.dumps(record, indent=2), json.dumps([record])):
        (tmp_path / "a.json").write_text(text)
        reader = JsonLines(("a.json",), str(tmp_path), FIELDS)
        files = reader.find_files()
        assert [one.values for one in reader.read(files, files.paths[0])] == [record]


GOOD = json.dumps(dict.fromkeys(FIELDS, "good"))
WRONG = {
    "trailing comma": ('{"text": "a",}', "line 2 of a.json"),
    "trailing comma in a list": ('{"text": ["a",]}', "line 2 of a.json"),
    "NaN": ('{"text": NaN}', "NaN is not a JSON value; write null"),
    "Infinity": ('{"text": -Infinity}', "-Infinity is not a JSON value"),
    "twice": ('{"text": "a", "text": "b"}', "an object has two members 'text'"),
    "twice within": ('{"text": "a", "b": {"é": 1, "é": 2}}', "an object has two members 'é'"),
    "long": ('{"text": ' + "9" * 5000 + "}", "a number has too many digits"),
    "deep": ('{"text": ' + "[" * 200 + "]" * 200 + "}", "it is nested more than 100 deep"),
    "very deep": ('{"text": ' + "[" * 100_000, "it is nested more than 100 deep"),
    "single quotes": ("{'text': 'a'}", "line 2 of a.json"),
    "control character": ('{"text": "a\tb"}', "line 2 of a.json"),
    "comment": ('{"text": "a"} // why', "line 2 of a.json"),
    "cut": ('{"text": "a', "of a.json"),
    "no object": ("3", "must be a JSON object"),
    "text": ('"text"', "must be a JSON object"),
    "null": ("null", "must be a JSON object"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_by_every_reader_and_set_aside_by_a_preparation(tmp_path, kind):
    line, message = WRONG[kind]
    path = tmp_path / "a.json"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n", encoding="utf-8")
    common = {"codec": Bytes(delimiter=True), "cache": str(tmp_path / "cache")}
    sources = [
        TextTables(str(path), layout=Documents(20), **common),
        *(s(str(path), **common) for s in (Instructions, Preferences)),
    ]
    for source in sources:
        with pytest.raises(UserError) as error:
            source.open()
        assert message in str(error.value) and "\n" not in str(error.value)
    reader, left = JsonLines(("a.json",), str(tmp_path)), Counter()
    files = reader.find_files()
    found = list(reader.read(files, files.paths[0], left))
    assert [one.values["text"] for one in found if one.fault is None] == ["good", "good"]
    (fault,) = (one.fault for one in found if one.fault)
    assert fault.split(":")[0] in ("broken JSON", "no JSON object")
    if "line" not in message and "object" not in message and "of a" not in message:
        assert message in fault


def test_missing_keys_nulls_and_values_that_are_no_text(tmp_path):
    rows = [
        '{"text": "a"}',
        '{"n": 1}',
        '{"text": null}',
        '{"text": ""}',
        '{"text": "b", "n": true}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    common = {"codec": Bytes(delimiter=True), "layout": Documents(20), "cache": str(tmp_path / "c")}
    data = TextTables(str(tmp_path / "a.jsonl"), split=ByDocuments(test=0), **common).open()
    assert (
        len(data.splits["train"].corpus) == 2 and "3 rows without text skipped" in data.remarks[0]
    )
    reader, left = JsonLines(("a.jsonl",), str(tmp_path), ("text", "n")), Counter()
    files = reader.find_files()
    found = [tuple(one.values.values()) for one in reader.read(files, files.paths[0], left)]
    assert found == [("a", None), (None, "1"), (None, None), ("", None), ("b", "true")]
    assert +left == {
        "values of 'text' that are missing or null": 2,
        "values of 'n' that are missing or null": 3,
        "values of 'n' that are not text written as JSON": 2,
    }
    for value in ("3", "true", "1.5", '{"a": 1}', '["a"]', str(2**200)):
        (tmp_path / "b.jsonl").write_text(f'{{"text": "a"}}\n{{"text": {value}}}\n')
        with pytest.raises(
            UserError, match=r"line 2 of .*b.jsonl holds \w+ in 'text', not text"
        ) as error:
            TextTables(str(tmp_path / "b.jsonl"), **common).open()
        assert error.value.field == "text"
        reader = JsonLines(("b.jsonl",), str(tmp_path))
        files = reader.find_files()
        assert [one.values["text"] for one in reader.read(files, files.paths[0])] == ["a", value]
