"""Sources of text from file to batch: contents, splits, the cache, and every way in which
files can be wrong.
"""

import dataclasses
import gzip
import json
import tracemalloc

import numpy as np
import pytest

from genjax.data.sources import PythonDocs, TextFiles, TextTables
from genjax.data.text import corpus as corpora
from genjax.data.text import documents as texts
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.layouts import Blocks, Documents, Packed, RandomWindows
from genjax.data.text.splits import ByCharacters, ByDocuments, ByFiles
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError

WHOLE = ByCharacters(test=0.0)
POEM = "Tiger, tiger, burning bright\nIn the forests of the night;\n" * 20


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(POEM)
    (folder / "b.txt.gz").write_bytes(gzip.compress("Ünïcödé →\r\n".encode() * 9))
    (folder / "c.txt").write_text("third")
    (folder / ".hidden.txt").write_text("no")
    return folder


def text_of(data, split="train"):
    made = data.splits[split].corpus
    return [data.codec.decode(made.document(d)) for d in range(len(made))]


def check_entries(data):
    """Batches hold what the spec says."""
    for split in data.splits.values():
        found = {name: (x.shape[1:], x.dtype.type) for name, x in split.batch(np.arange(1)).items()}
        assert found == {name: entry for name, entry in data.spec.entries.items() if name != "mask"}


def test_files_plain_and_packed_are_documents_in_order(folder):
    data = TextFiles(
        str(folder), "*.txt*", codec=Characters(delimiter=True), layout=Packed(16), split=WHOLE
    ).open()
    assert text_of(data) == [POEM, "Ünïcödé →\r\n" * 9, "third"]
    assert list(data.splits) == ["train"] and data.spec.shape == (17,) and data.spec.packed
    assert (
        data.spec.vocabulary == data.codec.vocabulary == 1 + len(set(POEM + "Ünïcödé →\r\nthird"))
    )
    made = data.splits["train"].corpus
    assert made.text_characters == sum(map(len, text_of(data)))
    assert made.text_bytes == sum(len(text.encode()) for text in text_of(data))
    check_entries(data)


def test_a_single_file_and_lines_as_documents(folder):
    (folder / "names.txt").write_text("emma\n\nava\r\nmia")
    data = TextFiles(
        str(folder / "names.txt"), unit="lines", layout=Documents(8), split=WHOLE
    ).open()
    assert text_of(data) == ["emma", "ava", "mia"]
    check_entries(data)


def test_the_first_characters_train_and_the_last_test(folder):
    data = TextFiles(
        str(folder), "a.txt", layout=RandomWindows(8), split=ByCharacters(0.25, 0.25)
    ).open()
    cut = len(POEM) // 2, len(POEM) * 3 // 4
    assert [text_of(data, s)[0] for s in ("train", "validation", "test")] == [
        POEM[: cut[0]],
        POEM[cut[0] : cut[1]],
        POEM[cut[1] :],
    ]
    assert isinstance(
        data.splits["test"], type(Blocks(8).split(data.splits["test"].corpus, data.codec))
    )
    assert data.splits["test"].stride == 8 and data.splits["train"].stride == 1
    check_entries(data)


def test_a_cut_in_the_middle_of_a_document_goes_on_in_the_next_part(folder, monkeypatch):
    monkeypatch.setattr(texts, "BLOCK", 100)
    data = TextFiles(
        str(folder), "*.txt", codec=Bytes(True), layout=Blocks(8), split=ByCharacters(0.5)
    ).open()
    first, second = "".join(text_of(data, "train")), "".join(text_of(data, "test"))
    assert first + second == POEM + "third" and len(first) == (len(POEM) + 5) // 2
    assert [len(text_of(data, s)) for s in ("train", "test")] == [1, 2]
    assert (
        data.splits["train"].corpus.tokens == 256
    ).sum() == 1  # the cut ends what is left of a document


def test_documents_are_held_out_by_seed(tmp_path):
    (tmp_path / "n.txt").write_text("\n".join(f"{i:03}" for i in range(100)))

    def parts(**fields):
        split = ByDocuments(**fields)
        data = TextFiles(
            str(tmp_path), unit="lines", codec=Bytes(), layout=Documents(4), split=split
        ).open()
        return {name: set(text_of(data, name)) for name in data.splits}

    one, two = parts(test=0.1, validation=0.2), parts(test=0.1, validation=0.2, seed=1)
    assert {name: len(part) for name, part in one.items()} == {
        "train": 70,
        "validation": 20,
        "test": 10,
    }
    assert (
        set.union(*one.values()) == {f"{i:03}" for i in range(100)} and one["test"] != two["test"]
    )
    assert parts(test=0.1, validation=0.2) == one
    assert list(parts(test=0.0)) == ["train"]


def test_files_are_held_out_by_pattern(folder):
    split = ByFiles(test="c.*", validation="*.gz")
    data = TextFiles(str(folder), "*.txt*", codec=Bytes(), layout=Blocks(4), split=split).open()
    assert (
        text_of(data, "test") == ["third"]
        and text_of(data, "train") == [POEM]
        and len(data.splits) == 3
    )
    with pytest.raises(UserError, match="validation must match a file: none of the 3 files"):
        TextFiles(str(folder), "*.txt*", split=ByFiles("c.*", "d.*")).open()


def test_tables_of_all_kinds_hold_the_same_documents(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = ["one, two", 'with "quotes"', "and\nlines", "", "ünï → 🙂", "x" * 200_000]
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": 1, "text": row}) + "\n\n" for row in rows)
    )
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    quoted = "".join(f'1,"{row.replace(chr(34), chr(34) * 2)}"\r\n' for row in rows)
    (tmp_path / "a.csv").write_bytes(f"\ufeffid,text\r\n{quoted}".encode())
    (tmp_path / "a.tsv").write_text(
        "text\tid\n" + "".join(f"{json.dumps(row)}\t1\n" for row in rows[::5])
    )
    table = pyarrow.table({"id": [1] * 7, "text": [*rows, None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"):
        source = TextTables(str(tmp_path), name, codec=Bytes(), layout=Packed(16), split=WHOLE)
        assert text_of(source.open()) == [row for row in rows if row], name
        check_entries(source.open())
    assert (
        text_of(
            TextTables(str(tmp_path), "a.tsv", codec=Bytes(), quote=chr(34), split=WHOLE).open()
        )
        == rows[::5]
    )


def test_pythons_own_documentation_needs_no_files():
    data = PythonDocs(layout=RandomWindows(32)).open()
    from pydoc_data.topics import topics

    assert sorted(text_of(data, "train") + text_of(data, "test")) == sorted(topics.values())
    assert (
        len(data.splits["train"]) > 200_000 and data.fingerprint == PythonDocs().open().fingerprint
    )
    check_entries(data)


def test_text_is_tokenised_once(folder, monkeypatch):
    source = TextFiles(str(folder), "a.txt", codec=Subwords("bpe", 300), layout=RandomWindows(8))
    first = source.open()

    def refuse(*_):
        raise AssertionError("done again")

    monkeypatch.setattr(Subwords, "fit", refuse)
    monkeypatch.setattr(Subwords, "encode", refuse)
    monkeypatch.setattr(texts.FileTexts, "iterate_pieces", refuse)
    again = source.open()
    assert again.fingerprint == first.fingerprint and again.codec == first.codec
    assert np.array_equal(again.splits["train"].corpus.tokens, first.splits["train"].corpus.tokens)
    assert isinstance(again.splits["train"].corpus.tokens, np.memmap)


def test_of_two_processes_that_fit_at_once_the_first_has_the_word(folder, monkeypatch):
    source = TextFiles(str(folder), "a.txt", codec=Subwords("bpe", 300), layout=RandomWindows(8))
    fit, others = Subwords.fit, []

    def slow(self, read):
        read = list(read)
        if not others:
            others.append(None)
            others[0] = source.open().codec  # the other one comes and is done meanwhile
            return dataclasses.replace(fit(self, read), size=299)
        return fit(self, read)

    monkeypatch.setattr(Subwords, "fit", slow)
    assert source.open().codec == others[0] == source.open().codec


def test_what_changes_the_tokens_is_not_taken_from_the_cache(folder):
    def fingerprint(**fields):
        data = TextFiles(str(folder), "a.txt", **{"layout": RandomWindows(8)} | fields).open()
        check_entries(data)
        return data.fingerprint

    base = fingerprint()
    assert fingerprint() == base == fingerprint(cache=str(folder / "other"))
    others = [
        fingerprint(codec=Bytes()),
        fingerprint(split=ByCharacters(0.2)),
        fingerprint(codec=Characters(delimiter=True)),
    ]
    (folder / "a.txt").write_text(POEM.replace("night", "light"))
    assert len({base, *others, fingerprint()}) == 5


@pytest.mark.parametrize("harm", ["version", "cut", "header"])
def test_a_cache_that_is_damaged_or_of_another_version_is_made_anew(folder, tmp_path, harm, capsys):
    source = TextFiles(str(folder), "a.txt", layout=RandomWindows(8), split=WHOLE)
    truth = np.array(source.open().splits["train"].corpus.tokens)
    (cached,) = (tmp_path / "cache" / "genjax").glob("tokens-*")
    header = json.loads((cached / "header.json").read_text())
    if harm == "version":
        (cached / "header.json").write_text(json.dumps(header | {"format": 99}))
    elif harm == "cut":
        (cached / "tokens.npy").write_bytes((cached / "tokens.npy").read_bytes()[:-100])
    else:
        (cached / "header.json").write_text("{")
    assert np.array_equal(source.open().splits["train"].corpus.tokens, truth)
    assert "damaged or of another version: writing it again" in capsys.readouterr().err
    source.open()
    assert not capsys.readouterr().err
    assert not list((tmp_path / "cache" / "genjax").glob("*.part"))


def test_a_failure_leaves_no_half_cache(folder, tmp_path):
    with pytest.raises(UserError, match=r"'Ü' \(U\+00DC\) at character 0 of b.txt.gz"):
        TextFiles(str(folder), "*.txt*", layout=Blocks(8), split=ByFiles("b*")).open()
    with pytest.raises(UserError, match="at character 7 of a.txt"):
        TextFiles(str(folder), "a.txt", codec=Characters(" ,Tegir"), split=WHOLE).open()
    assert (
        len(list((tmp_path / "cache" / "genjax").glob("tokens-*"))) == 1
    )  # those of the training files
    assert not list((tmp_path / "cache" / "genjax").glob("*.part"))


def test_the_place_of_an_unknown_character_is_counted_over_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "BLOCK", 64)
    (tmp_path / "long.txt").write_text("word " * 1000 + "é")
    with pytest.raises(UserError, match=r"'é' .* at character 5,000 of long.txt"):
        TextFiles(str(tmp_path), codec=Characters(" dorw"), split=WHOLE).open()


def test_pieces_do_not_change_what_is_tokenised(folder, monkeypatch):
    def tokens(cache):
        codec = Subwords("bpe", 300)
        data = TextFiles(
            str(folder), "*.txt*", codec=codec, split=WHOLE, layout=Blocks(8), cache=cache
        ).open()
        return np.array(data.splits["train"].corpus.tokens)

    whole = tokens(str(folder / "one"))
    monkeypatch.setattr(texts, "BLOCK", 37)  # in the middle of characters of several bytes, too
    assert np.array_equal(tokens(str(folder / "two")), whole)


def test_a_corpus_larger_than_memory_goes_through(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "BLOCK", 2**14)
    size = 2**23
    with (tmp_path / "big.txt").open("w") as file:
        for number in range(size // 16):
            file.write(f"line {number:010}\n"[-16:])
    source = TextFiles(
        str(tmp_path), codec=Bytes(), layout=RandomWindows(64), split=ByCharacters(0.1)
    )
    tracemalloc.start()
    data = source.open()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(split.corpus.text_bytes for split in data.splits.values()) == size
    assert peak < size / 8
    assert data.splits["train"].batch(np.array([0, 7_000_000]))["tokens"].shape == (2, 65)


def test_small_vocabularies_take_two_bytes_a_token_and_large_ones_four():
    assert corpora.token_dtype(2**16) == np.uint16 and corpora.token_dtype(2**16 + 1) == np.uint32


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return str(folder)


BAD = [
    (lambda f: TextFiles(write(f, "a.txt", b"")), "a.txt.* holds no text"),
    (lambda f: TextFiles(write(f, "a.txt", b""), codec=Bytes()), "holds no text"),
    (
        lambda f: TextFiles(write(f, "a.txt", b"abc\xffdef")),
        r"a.txt is not utf-8: byte 3 \(0xff\) cannot be decoded",
    ),
    (
        lambda f: TextFiles(write(f, "a.txt", b"x" * 3_000_000 + b"\xe2\x82")),
        r"byte 3,000,000 \(0xe2\)",
    ),
    (
        lambda f: TextFiles(write(f, "a.txt.gz", gzip.compress(b"ab\xe9c")), "*.gz"),
        r"byte 2 of the unpacked text \(0xe9\)",
    ),
    (
        lambda f: TextFiles(write(f, "a.txt.gz", gzip.compress(b"abc" * 99)[:-9]), "*.gz"),
        "a.txt.gz is not a complete gzip",
    ),
    (
        lambda f: TextFiles(write(f, "a.txt.gz", b"plain"), "*.gz"),
        "a.txt.gz is not a complete gzip",
    ),
    (
        lambda f: TextFiles(write(f, "a.txt", b"abc"), encoding="utf-88"),
        "encoding must be .*, got 'utf-88'",
    ),
    (lambda f: TextFiles(write(f, "a.md", b"abc")), r"no file of .* matches '\*.txt'"),
    (lambda f: TextFiles(str(f / "nowhere")), "there is no file or folder"),
    (lambda f: TextFiles(write(f, "a.txt", b"aaa")), "length must be < 2, the tokens of"),
    (
        lambda f: TextFiles(write(f, "a.txt", b"abc"), split=ByDocuments()),
        "1 documents are too few to hold out 1",
    ),
    (
        lambda f: TextFiles(str(f), unit="words"),
        "unit must be one of 'files', 'lines', 'paragraphs'",
    ),
    (
        lambda f: TextTables(write(f, "a.jsonl", b'{"txt": "a"}\n')),
        "unknown column 'text'; did you mean 'txt'",
    ),
    (
        lambda f: TextTables(write(f, "a.jsonl", b'{"text": "a"}\n{"tex')),
        "line 2 of a.jsonl is not JSON",
    ),
    (
        lambda f: TextTables(write(f, "a.jsonl", b"[1]\n")),
        "record 1 of a.jsonl must be a JSON object",
    ),
    (
        lambda f: TextTables(write(f, "a.jsonl", b'{"text": 3}\n')),
        "line 1 of a.jsonl holds int in 'text', not text",
    ),
    (lambda f: TextTables(write(f, "a.jsonl", b'{"text": "a\xff"}\n')), "not utf-8: byte 11"),
    (
        lambda f: TextTables(write(f, "a.csv", b"id,body\n1,x\n"), "*.csv"),
        "a.csv: unknown column 'text'",
    ),
    (
        lambda f: TextTables(write(f, "a.csv", b'text\n"x\n'), "*.csv"),
        "a.csv cannot be read as a table",
    ),
    (
        lambda f: TextTables(write(f, "a.parquet", b"PAR1"), "*.parquet"),
        "a.parquet cannot be read as Parquet",
    ),
    (
        lambda f: TextTables(write(f, "a.txt", b"x"), "*.txt"),
        "a.txt must end in .jsonl",
    ),
    (
        lambda f: TextFiles(write(f, "a.txt", b"abcd" * 99), cache=str(f / "a.txt")),
        "cannot write the token cache",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_source_is_refused_in_one_line(make, message, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    with pytest.raises(UserError, match=message) as refused:
        make(folder).open()
    assert "\n" not in str(refused.value)


def test_a_missing_parquet_column_and_no_root_are_refused(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="a.parquet: unknown column 'boddy'; did you mean 'body'"):
        TextTables(str(tmp_path), "*.parquet", "boddy").open()
    with pytest.raises(UserError, match="row 1 of a.parquet holds int in 'n'"):
        TextTables(str(tmp_path), "*.parquet", "n").open()


@pytest.mark.parametrize(
    "fields", [{"test": 1.0}, {"test": -0.1}, {"test": 0.6, "validation": 0.4}]
)
@pytest.mark.parametrize("split", [ByCharacters, ByDocuments])
def test_fractions_that_leave_nothing_are_refused(split, fields):
    with pytest.raises(UserError, match="fractions >= 0 whose sum is < 1"):
        split(**fields)


def test_words_go_through_as_well(folder):
    data = TextFiles(
        str(folder), "a.txt", codec=Words(), layout=Documents(8), split=WHOLE, unit="lines"
    ).open()
    assert (
        data.codec.words[:2] == (",", "the") and text_of(data)[0] == "tiger, tiger, burning bright"
    )
    assert data.splits["train"].batch(np.array([0]))["tokens"][0, 0] == data.codec.start
