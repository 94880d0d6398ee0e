"""Raw files that are truncated, oddly named or packed, or that do not match their suffix."""

import bz2
import gzip
import lzma
import os
import struct
import zipfile

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from genjax.data.audio.signals import read_wav, wav_bytes
from genjax.errors import UserError
from genjax.prepare import reading
from genjax.prepare import run as preparing
from genjax.prepare.files import Files
from genjax.prepare.json_lines import JsonLines
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Csv, Parquet, Texts, Waves
from genjax.prepare.stages.splits import Decontaminated


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


def test_a_csv_file_without_a_column_of_the_first_is_broken(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\none,1\n")
    (tmp_path / "b.csv").write_text("Text,label,more\ntwo,2,x\n")
    (tmp_path / "c.csv").write_text("label,text\n3,three\n")
    (tmp_path / "d.csv").write_text("text,label,text\nfour,4,five\n")
    kept, broken = read(tmp_path, Csv(("*.csv",), str(tmp_path)))
    assert [(row["text"], row["label"]) for row in kept] == [("one", "1"), ("three", "3")]
    assert broken == [
        ("b.csv", "no column text"),
        ("d.csv", "d.csv has two columns named 'text': rename one"),
    ]
    _, broken = read(tmp_path / "2", Csv(("*.csv",), str(tmp_path), ("text",)))
    assert [place for place, _ in broken] == ["b.csv", "d.csv"]


def test_a_quote_that_is_not_closed_is_told_with_its_lines(tmp_path):
    (tmp_path / "a.csv").write_text(
        'n,text\n1,"good, ""so"""\n2,"two\n3,three\n4,"four"\n5, "fi\nve"\n6,"six\n7,seven\n'
    )
    kept, broken = read(tmp_path, Csv(("a.csv",), str(tmp_path)))
    assert [(row["n"], row["text"]) for row in kept] == [("1", 'good, "so"'), ("5", "fi\nve")]
    assert broken == [
        ("a.csv#row-000000002", "broken CSV: lines 3 to 5: ',' expected after '\"'"),
        (
            "a.csv#row-000000004",
            "broken CSV: lines 8 to 9: unexpected end of data, a quote is not closed",
        ),
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "the file is empty: it must have a header"),
        (
            "a.csv",
            "text,label\nx,y\n".encode("utf-16"),
            "a.csv cannot be read as a table, near line 1",
        ),
        ("a.csv", "text,l\xe4bel\nx,y\n".encode("latin-1"), "not in utf-8"),
        ("a.csv", b'"text,label\nx,y\n', "a.csv cannot be read as a table, near line 2"),
        ("a.csv.gz", gzip.compress(b"text,label\nx,y\n")[:12], "damaged file"),
        ("a.csv.gz", b"text,label\nx,y\n", "damaged file"),
        ("a.csv.zip", b"text,label\nx,y\n", "damaged file"),
    ],
    ids=["empty", "utf-16", "latin-1", "quote", "cut", "no gzip", "no zip"],
)
def test_the_first_csv_file_that_can_be_read_tells_the_columns(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="no file has a header that can be read; .*a.csv"):
        reading.plan_reading([Csv(("a.csv*",), str(tmp_path))])
    (tmp_path / "b.csv").write_text("text,label\none,1\n")
    kept, broken = read(tmp_path, Csv(("*.csv*",), str(tmp_path)))
    assert [row["text"] for row in kept] == ["one"]
    assert [(place, why.startswith(reason)) for place, why in broken] == [(name, True)]


def test_the_header_of_a_csv_file_is_in_its_encodings(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,l\xe4ge\nx,\xfc\n".encode("latin-1"))
    kept, broken = read(tmp_path, Csv(("a.csv",), str(tmp_path), encodings=("utf-8", "latin-1")))
    assert (kept[0]["text"], kept[0]["l\xe4ge"]) == ("x", "\xfc") and not broken
    with pytest.raises(UserError, match="encodings must contain ASCII, got utf-16"):
        Csv(("a.csv",), encodings=("utf-16",))
    Csv(("a.csv",), encodings=("utf-8-sig", "cp1252", "shift_jis"))


SECRET = "the one sentence that models are judged by and must not be trained on at all"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "judge.txt.gz",
            gzip.compress(os.urandom(99) + SECRET.encode())[:-20],
            "judge.txt.gz.*cannot be read completely",
        ),
        (
            "judge.txt.gz",
            SECRET.encode(),
            "judge.txt.gz.*cannot be read completely: Not a gzipped file",
        ),
        (
            "judge.txt",
            SECRET.encode() + b"\n\xff\n\xfe",
            r"2 evaluation texts cannot be read; the first is judge\.txt",
        ),
    ],
    ids=["cut", "no gzip", "lines"],
)
def test_a_set_to_judge_by_that_cannot_be_read_whole_stops_a_preparation(
    tmp_path, name, content, message
):
    (tmp_path / "train.txt").write_text(SECRET)
    (tmp_path / name).write_bytes(content)
    root = str(tmp_path)
    stages = (Decontaminated((Texts((name,), root, "lines"),), 8),)
    with pytest.raises(UserError, match=message):
        preparing.prepare(
            Preparation((Texts(("train.txt",), root),), stages), "x", tmp_path / "out", say=str
        )


def test_a_set_to_judge_by_has_the_column(tmp_path):
    (tmp_path / "train.txt").write_text(SECRET)
    (tmp_path / "judge.jsonl").write_text('{"question": "a"}')
    root = str(tmp_path)
    stages = (Decontaminated((JsonLines(("judge.jsonl",), root, ("question",)),), 8),)
    with pytest.raises(UserError, match="JsonLines in against must have the column 'text'"):
        preparing.prepare(
            Preparation((Texts(("train.txt",), root),), stages), "x", tmp_path / "out", say=str
        )


def zipped(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, f"of {member}")


def test_what_is_unpacked_and_what_is_not(tmp_path):
    for suffix, pack in (("bz2", bz2.compress), ("gz", gzip.compress), ("xz", lzma.compress)):
        (tmp_path / f"a.{suffix}").write_bytes(pack(b"text"))
    zipped(tmp_path / "b.zip", "folder/", "folder/one")
    kept, broken = read(tmp_path / "1", Texts(("*.*",), str(tmp_path)))
    assert [row["text"] for row in kept] == ["text", "text", "text", "of folder/one"] and not broken
    zipped(tmp_path / "c.zip", "one", "two")
    zipped(tmp_path / "d.zip")
    zipped(tmp_path / "e.zip", "one")
    whole = bytearray((tmp_path / "e.zip").read_bytes())
    whole[whole.index(b"PK\1\2") + 8] |= 1  # it asks for a password
    whole[6] |= 1
    (tmp_path / "e.zip").write_bytes(whole)
    (tmp_path / "f.zip").write_bytes(b"junk")
    kept, broken = read(tmp_path / "2", Texts(("[c-f].zip",), str(tmp_path)))
    assert not kept and [place for place, _ in broken] == ["c.zip", "d.zip", "e.zip", "f.zip"]
    assert broken[0][1] == "damaged file: a zip archive must hold one file, got 2"
    assert "got 0" in broken[1][1] and "password" in broken[2][1] and "not a zip" in broken[3][1]
    (tmp_path / "g.parquet.zip").write_bytes(b"junk")
    _, broken = read(tmp_path / "3", Parquet(("g.*",), str(tmp_path)))
    assert broken == [("g.parquet.zip", "damaged file: File is not a zip file")]


def test_a_suffix_that_nothing_here_unpacks_names_the_package(tmp_path, monkeypatch):
    monkeypatch.delitem(fsspec.utils.compressions, "zst", raising=False)
    (tmp_path / "a.txt.zst").write_bytes(b"junk")
    with pytest.raises(
        UserError, match=r"a.txt.zst cannot be unpacked: .zst needs the package backports.zstd"
    ):
        Texts(("*.zst",), str(tmp_path)).find_files()
    with pytest.raises(UserError, match=r"backports.zstd"):
        Files(str(tmp_path), ()).open(str(tmp_path / "a.txt.zst"))


def test_a_wave_without_a_rate_is_told(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(np.arange(9, dtype=np.int16)[:, None], 8000))
    (tmp_path / "b.wav").write_bytes(_without_rate())
    kept, broken = read(tmp_path, Waves(("*.wav",), str(tmp_path)))
    assert len(kept) == 1 and broken == [("b.wav", "no sound: its rate is 0 Hz")]


def _without_rate():
    content = bytearray(wav_bytes(np.arange(9, dtype=np.int16)[:, None], 8000))
    content[24:28] = bytes(4)
    return bytes(content)


@pytest.mark.parametrize("kind", [1, 3])
def test_extensible_waves_of_24_bits_are_read_if_they_are_pcm(kind):
    data = b"\x01\x34\x12\xff\xff\xff"
    guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 24000, 3, 24, 22, 24, 4) + guid
    chunks = [(b"JUNK", b"odd"), (b"fmt ", form), (b"data", data)]
    body = b"WAVE" + b"".join(
        n + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for n, c in chunks
    )
    content = b"RIFF" + struct.pack("<I", len(body)) + body
    if kind == 1:
        signal, rate = read_wav(content)
        assert rate == 8000 and signal.tolist() == [[0x1234], [-1]]
    else:
        with pytest.raises(ValueError, match="have 24 bits"):
            read_wav(content)


def test_the_root_of_a_file_system_is_a_root(tmp_path):
    fsspec.filesystem("memory").pipe("/odd-root.txt", b"from memory")
    kept, _ = read(tmp_path / "1", Texts(("odd-root.txt",), "memory://"))
    assert [(row["id"], row["text"]) for row in kept] == [("odd-root.txt", "from memory")]
    (tmp_path / "a.txt").write_text("here")
    name = str(tmp_path / "a.txt").lstrip("/")
    kept, _ = read(tmp_path / "2", Texts((name,), "/"))
    assert [(row["id"], row["text"]) for row in kept] == [(name, "here")]


def test_a_root_is_no_pattern(tmp_path):
    for folder in ("[2020]", "a*", "ab"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder)
    for folder in ("[2020]", "a*"):
        kept, _ = read(tmp_path / folder, Texts(("*.txt",), str(tmp_path / folder)))
        assert [(row["id"], row["text"]) for row in kept] == [("x.txt", folder)]
    with pytest.raises(UserError, match=r"'a\*\*b' is not a pattern of files"):
        Texts(("a**b",), str(tmp_path)).find_files()


def test_names_and_links_that_lead_nowhere_are_refused(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.csv").symlink_to(tmp_path / "nothing")
    (raw / "b.csv").write_text("text\none\n")
    for reader in (Texts(("*.csv",), str(raw)), Csv(("*.csv",), str(raw))):
        with pytest.raises(UserError, match="a.csv cannot be read: No such file"):
            preparing.prepare(Preparation((reader,), ()), "x", tmp_path / "out", say=str)
    with open(os.fsencode(raw) + b"/\xff.txt", "w", encoding="utf-8") as file:
        file.write("x")
    with pytest.raises(UserError, match="must be in UTF-8: rename it"):
        Texts(("*.txt",), str(raw)).find_files()
