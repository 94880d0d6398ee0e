"""Sentence pairs, and the published text sets where they are at hand."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest

from genjax.config_files import to_json
from genjax.data.sources import SentencePairs, TextFiles, TFDSText
from genjax.data.sources.pairs import PairCodec
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.layouts import Documents, RandomWindows
from genjax.data.text.splits import ByCharacters, ByDocuments
from genjax.errors import UserError
from genjax.serial.stored import from_json

ROOT = Path(os.environ.get("GENJAX_DATA", "/nowhere")).expanduser()
GERMAN = ["Ein Hund bellt.", "Zwei Hunde bellen.", "Ein Mann schläft und schläft und schläft."]
ENGLISH = ["A dog barks.", "Two dogs bark.", "A man sleeps and sleeps and sleeps."]


def needs(folder):
    return pytest.mark.skipif(
        not (ROOT / folder).exists(), reason=f"needs $GENJAX_DATA/{folder} (GENJAX_DATA unset?)"
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.de").write_text("\n".join(GERMAN) + "\n")
    (tmp_path / "train.en.gz").write_bytes(gzip.compress("\n".join(ENGLISH).encode()))
    (tmp_path / "val.de").write_text("Ein Hund schläft.\n\n")
    (tmp_path / "val.en").write_text("A dog sleeps.\n\n")
    return tmp_path


def pairs(folder, **fields):
    fields = {
        "source_codec": Words(),
        "target_codec": Words(),
        "source_length": 8,
        "length": 7,
        "test": None,
    } | fields
    return SentencePairs(str(folder), **fields)


def test_pairs_keep_step(folder):
    data = pairs(folder, source_length=12, length=11).open()
    found = data.splits["train"].batch(np.arange(3))
    for row, (german, english) in enumerate(zip(GERMAN, ENGLISH, strict=True)):
        source, target = found["source_tokens"][row], found["tokens"][row]
        assert (
            data.codec.source.decode(source) == german.lower()
            and data.codec.decode(target) == english.lower()
        )
        assert (source[0], target[0]) == (2, 2) and source[
            int(found["source_mask"][row].sum()) - 1
        ] == 3
        assert np.array_equal(found["source_mask"][row], source != 0)
        assert np.array_equal(found["loss_mask"][row], (target != 0) & (np.arange(12) > 0))
        again = data.codec.encode_source(german, 12)
        assert np.array_equal(again[0], source) and np.array_equal(
            again[1], found["source_mask"][row]
        )
    entries = {name: (x.shape[1:], x.dtype.type) for name, x in found.items()}
    assert entries == {name: entry for name, entry in data.spec.entries.items() if name != "mask"}
    assert (data.spec.source_length, data.spec.source_vocabulary) == (
        12,
        data.codec.source.vocabulary,
    )
    assert data.splits["train"].references() == ENGLISH
    assert data.splits["validation"].batch(np.array([1]))["tokens"][0].tolist() == [
        2,
        3,
        *[0] * 10,
    ]  # an empty line


def test_long_pairs_are_cut_before_their_end_or_dropped(folder, capsys):
    data = pairs(folder).open()
    found = data.splits["train"].batch(np.array([2]))
    assert (
        found["source_tokens"][0, -1] == 3
        and found["tokens"][0, -1] == 3
        and found["loss_mask"].sum() == 7
    )
    assert "train: 1 of 3 pairs are too long and are cut" in capsys.readouterr().err
    dropped = pairs(folder, long="drop").open()
    assert len(dropped.splits["train"]) == 2 and dropped.splits["train"].references() == ENGLISH[:2]
    assert "1 of 3 pairs are too long and are dropped" in capsys.readouterr().err


def test_the_codec_of_pairs_is_kept_with_the_run(folder, tmp_path):
    codec = pairs(folder).open().codec
    again = from_json(to_json(codec))
    assert (
        again == codec
        and isinstance(again, PairCodec)
        and again.vocabulary == again.target.vocabulary
    )
    path = again.write(np.stack([[2, *again.encode("a dog"), 3, 5]]), tmp_path / "out" / "s")
    assert path.read_text() == "a dog\n"


def test_the_lengths_that_a_refusal_names_keep_the_pairs(folder):
    with pytest.raises(UserError, match="pairs are too long and would be dropped") as error:
        pairs(folder, source_length=2, length=2, long="drop").open()
    assert error.value.field == "length"
    lengths = dict(re.findall(r"(\w*length)=(\d+)", str(error.value)))
    fields = {name: int(number) for name, number in lengths.items()}
    assert set(fields) == {"source_length", "length"}
    assert len(pairs(folder, long="drop", **fields).open().splits["train"]) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test": "test"}, "there is no file .*test.de, nor test.de.gz"),
        ({"target": "fr"}, "there is no file .*train.fr"),
        ({"validation": "odd"}, "odd.en must have the same number of lines, got 1 and 2"),
        ({"target_codec": Bytes()}, "must have start and end tokens"),
        ({"long": "split"}, "long must be one of 'drop', 'cut'"),
        ({"length": 1}, "length must be at least 2"),
        ({"source_length": 2, "long": "drop"}, "train: 3 of 3 pairs .* source_length="),
    ],
)
def test_what_makes_no_pairs_is_refused(fields, message, folder):
    (folder / "odd.de").write_text("x\n")
    (folder / "odd.en").write_text("x\ny\n")
    with pytest.raises(UserError, match=message):
        pairs(folder, **fields).open()


@needs("text")
def test_shakespeare_is_split_as_published():
    data = TextFiles(
        pattern="tinyshakespeare.txt", codec=Characters(), layout=RandomWindows(64)
    ).open()
    train, test = data.splits["train"], data.splits["test"]
    assert (data.spec.vocabulary, data.codec.characters[:4]) == (65, "\n !$")
    assert (len(train.corpus.tokens), len(test.corpus.tokens)) == (1_003_854, 111_540)
    assert len(train) == 1_003_854 - 64 and len(test) == 1743
    found = [test.batch(np.arange(start, min(start + 500, 1743))) for start in range(0, 1743, 500)]
    assert sum(batch["loss_mask"].sum() for batch in found) == 111_539
    counts = np.bincount(train.corpus.tokens, minlength=65)
    unigram = -np.log(counts / counts.sum())[test.corpus.tokens].mean()
    assert unigram == pytest.approx(3.347, abs=5e-4)  # the floor of this split


@needs("text")
def test_the_bigrams_of_the_names_are_those_published():
    layout, split = Documents(16), ByCharacters(0.0)
    source = TextFiles(
        pattern="names.txt",
        unit="lines",
        codec=Characters(delimiter=True),
        layout=layout,
        split=split,
    )
    data = source.open()
    found = data.splits["train"].batch(np.arange(len(data.splits["train"])))
    before, after = found["tokens"][:, :-1], found["tokens"][:, 1:]
    real = found["loss_mask"][:, 1:] == 1
    counts = np.zeros((27, 27))
    np.add.at(counts, (before[real], after[real]), 1)
    assert data.spec.vocabulary == 27 and counts.sum() == 228_146
    nll = (
        -(counts * np.log(np.where(counts, counts, 1) / counts.sum(1, keepdims=True))).sum()
        / counts.sum()
    )
    assert nll == pytest.approx(2.4540, abs=5e-5)


@needs("text")
def test_books_are_documents_held_out_whole():
    source = TextFiles(
        pattern="books/*.txt.gz", codec=Bytes(), layout=RandomWindows(64), split=ByDocuments(0.2)
    )
    data = source.open()
    assert [len(data.splits[name].corpus) for name in ("train", "test")] == [4, 1]
    assert sum(split.corpus.text_characters for split in data.splits.values()) == 9_795_524


@needs("tfds/tiny_shakespeare")
def test_tfds_has_splits_of_its_own():
    data = TFDSText(layout=RandomWindows(64)).open()
    assert {name: split.corpus.text_characters for name, split in data.splits.items()} == {
        "train": 1_003_854,
        "validation": 55_770,
        "test": 55_770,
    }
    with pytest.raises(UserError, match="split must be None for"):
        TFDSText(split=ByCharacters()).open()
    with pytest.raises(
        UserError, match="unknown text feature of tiny_shakespeare.* 'txt'; did you mean 'text'"
    ):
        TFDSText(feature="txt").open()


@needs("tfds/mnist")
def test_a_tfds_set_without_text_is_refused():
    with pytest.raises(UserError, match="holds no texts; its features: image, label"):
        TFDSText("mnist").open()


@needs("multi30k")
def test_multi30k_has_its_published_sizes():
    data = SentencePairs().open()
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 29_000,
        "validation": 1014,
        "test": 1000,
    }
    # of the published vocabularies, 7,853 and 5,893, which another splitting of words gives
    assert (
        abs(data.spec.source_vocabulary / 7853 - 1) < 0.01
        and abs(data.spec.vocabulary / 5893 - 1) < 0.01
    )
