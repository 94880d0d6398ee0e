import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from genjax.data.audio.signals import wav_bytes
from genjax.errors import UserError
from genjax.prepare import reading
from genjax.prepare.json_lines import JsonLines
from genjax.prepare.readers import Csv, Images, Parquet, Texts, Waves


def read(tmp_path, reader):
    """The kept rows and (id, reason) of the broken ones."""
    plan, schema = reading.plan_reading([reader])
    out = tmp_path / "out"
    reading.read_files(plan, schema, out)
    kept = [
        row for path in sorted((out / "kept").glob("*")) for row in pq.read_table(path).to_pylist()
    ]
    broken = [
        row
        for path in sorted((out / "dropped").glob("*"))
        for row in pq.read_table(path).to_pylist()
    ]
    return kept, [(row["id"], row["reason"]) for row in broken]


def test_a_file_a_line_and_a_paragraph_are_records(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_bytes(b"first\r\nsecond\n\n\nthird\n")
    files, root = ("a/*.txt",), str(tmp_path)
    kept, broken = read(tmp_path / "1", Texts(files, root))
    assert kept == [
        {"id": "a/one.txt", "source": "a/one.txt", "text": "first\r\nsecond\n\n\nthird\n"}
    ]
    kept, _ = read(tmp_path / "2", Texts(files, root, "lines"))
    assert [(row["id"], row["text"]) for row in kept] == [
        ("a/one.txt#line-000000001", "first"),
        ("a/one.txt#line-000000002", "second"),
        ("a/one.txt#line-000000005", "third"),
    ]
    kept, _ = read(tmp_path / "3", Texts(files, root, "paragraphs"))
    assert [(row["id"], row["text"]) for row in kept] == [
        ("a/one.txt#line-000000001", "first\r\nsecond"),
        ("a/one.txt#line-000000005", "third"),
    ]
    assert not broken


def test_of_mixed_encodings_each_record_takes_the_first_that_fits(tmp_path):
    (tmp_path / "x.txt").write_bytes("café\n".encode() + "naïve\n".encode("cp1252") + b"plain\n")
    kept, broken = read(tmp_path / "1", Texts(("x.txt",), str(tmp_path), "lines"))
    assert [row["text"] for row in kept] == ["café", "plain"]
    assert broken == [("x.txt#line-000000002", "not in utf-8")]
    kept, broken = read(
        tmp_path / "2", Texts(("x.txt",), str(tmp_path), "lines", ("utf-8", "cp1252"))
    )
    assert [row["text"] for row in kept] == ["café", "naïve", "plain"] and not broken


def test_a_cut_gzip_file_gives_what_it_holds_and_is_told(tmp_path):
    lines = [f"line {number} {number**7}" for number in range(5000)]
    whole = gzip.compress("\n".join(lines).encode())
    (tmp_path / "x.txt.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "y.txt.gz").write_bytes(b"no gzip at all")
    kept, broken = read(tmp_path, Texts(("*.gz",), str(tmp_path), "lines"))
    found = [row["text"] for row in kept]
    assert 1000 < len(found) < 4000 and found[:-1] == lines[: len(found) - 1]
    assert [place for place, _ in broken] == [f"x.txt.gz#line-{len(found):09d}-end", "y.txt.gz"]
    assert all(reason.startswith("damaged file: ") for _, reason in broken)


def test_broken_json_lines_are_told_and_stop_no_other(tmp_path):
    rows = [
        '{"text": "good", "n": 3}',
        '{"text": "cut',
        "[1, 2]",
        "",
        '{"n": {"a": 1}}',
        '{"text": "\\ud800"}',
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    kept, broken = read(tmp_path, JsonLines(("x.jsonl",), str(tmp_path), ("text", "n")))
    assert [(row["text"], row["n"]) for row in kept] == [
        ("good", "3"),
        (None, '{"a": 1}'),
        ("\ufffd", None),
    ]
    assert [(place[-1], reason.split(":")[0]) for place, reason in broken] == [
        ("2", "broken JSON"),
        ("3", "no JSON object"),
    ]


def test_csv_rows_of_the_wrong_width_are_told(tmp_path):
    content = (
        'name, age, town\n"Ann, the first", 3, Ulm\nBob, 4\n\nEve, , Köln\n'.encode()
        + b"F\xe9e, 5, Bonn\n"
    )
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf" + content)
    kept, broken = read(tmp_path, Csv(("x.csv",), str(tmp_path)))
    assert [(row["name"], row["age"], row["town"]) for row in kept] == [
        ("Ann, the first", "3", "Ulm"),
        ("Eve", None, "Köln"),
    ]
    assert broken == [
        ("x.csv#row-000000002", "has 2 values, but the header names 3 columns"),
        ("x.csv#row-000000005", "not in utf-8"),
    ]
    kept, _ = read(
        tmp_path / "2", Csv(("x.csv",), str(tmp_path), ("town",), encodings=("utf-8", "latin-1"))
    )
    assert [row["town"] for row in kept] == ["Ulm", "Köln", "Bonn"] and "name" not in kept[0]


def test_parquet_is_read_by_its_columns_and_a_damaged_file_is_told(tmp_path):
    pq.write_table(pa.table({"text": ["a", None], "n": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "c.parquet")
    kept, broken = read(tmp_path, Parquet(("*.parquet",), str(tmp_path), ("text", "n")))
    assert [(row["text"], row["n"]) for row in kept] == [("a", "1"), (None, "2")]
    assert [place for place, _ in broken] == ["b.parquet", "c.parquet"]
    assert broken[0][1].startswith("no Parquet file: ") and broken[1][1] == "no column text"


def test_images_that_are_none_are_told_and_folders_are_labels(tmp_path):
    (tmp_path / "cats").mkdir()
    buffer = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(buffer, "png")
    (tmp_path / "cats" / "a.png").write_bytes(buffer.getvalue())
    (tmp_path / "cats" / "b.png").write_bytes(b"<html>not found</html>")
    (tmp_path / "cats" / "c.png").write_bytes(buffer.getvalue()[:-20])
    kept, broken = read(tmp_path, Images(("**/*.png",), str(tmp_path)))
    assert [(row["id"], row["label"]) for row in kept] == [("cats/a.png", "cats")]
    assert kept[0]["image"] == buffer.getvalue()
    assert [place for place, _ in broken] == ["cats/b.png", "cats/c.png"]
    assert all(reason.startswith("no image: ") for _, reason in broken)


def test_waves_that_are_none_are_told(tmp_path):
    sound = wav_bytes(np.arange(100, dtype=np.int16)[:, None], 8000)
    (tmp_path / "a.wav").write_bytes(sound)
    (tmp_path / "b.wav").write_bytes(sound[:60])
    kept, broken = read(tmp_path, Waves(("*.wav",), str(tmp_path)))
    assert [row["signal"] for row in kept] == [sound] and kept[0]["label"] is None
    assert broken == [
        ("b.wav", "no sound: it is cut off: its header says 100 samples, the file has 8")
    ]


def test_files_come_from_any_file_system(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/raw/a.jsonl", json.dumps({"text": "from memory"}).encode())
    kept, _ = read(tmp_path, JsonLines(("*.jsonl",), "memory://raw"))
    assert [(row["id"], row["text"]) for row in kept] == [("a.jsonl#line-000000001", "from memory")]


def test_a_plan_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.csv").write_text("text,more\n")
    root = str(tmp_path)
    with pytest.raises(UserError, match=r"no file of .* matches '\*.md'"):
        reading.plan_reading([Texts(("*.md",), root)])
    with pytest.raises(
        UserError, match="readers must have the same columns, got Texts: text; Csv: text,"
    ):
        reading.plan_reading([Texts(("*.txt",), root), Csv(("*.csv",), root)])
    with pytest.raises(UserError, match="readers must not share files, got a.txt"):
        reading.plan_reading([Texts(("*.txt",), root), Texts(("a.*t",), root)])
    with pytest.raises(UserError, match="unknown column of .*a.csv 'mor'; did you mean 'more'"):
        reading.plan_reading([Csv(("*.csv",), root, ("mor",))])
    with pytest.raises(UserError, match="readers must not be empty"):
        reading.plan_reading([])
    with pytest.raises(UserError, match="encodings must be .*, got 'utf-9'"):
        Texts(("*",), root, encodings=("utf-9",))
    (tmp_path / "id.csv").write_text("id,more\n")
    with pytest.raises(UserError, match="must not be called id"):
        reading.plan_reading([Csv(("id.csv",), root)])


def test_without_a_root_the_environment_tells_it(tmp_path, monkeypatch):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    with pytest.raises(UserError, match="or set GENJAX_DATA"):
        Texts(("*.txt",)).find_files()
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setenv("GENJAX_DATA", str(tmp_path))
    assert Texts(("*.txt",)).find_files().paths == (str(tmp_path / "a.txt"),)
