"""Generated stand-ins: the same on every call, in the forms of the sets that they replace."""

import hashlib
import re

import numpy as np
import pytest

from genjax.data import stand_in
from genjax.data.sources import TFDS, Chorales, Instructions, Preferences, SentencePairs, TextFiles
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError

BPE = Subwords("bpe", 300, ("<|e|>",), start_token="<|e|>", end_token="<|e|>")


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
    monkeypatch.delenv("GENJAX_DATA", raising=False)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stand_in._say.cache_clear()


def hashes(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_files_are_written_once_and_are_the_same_each_time(tmp_path, monkeypatch):
    first = stand_in.write_stand_ins()
    assert first == stand_in.write_stand_ins() and len(hashes(first)) == 21
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert hashes(stand_in.write_stand_ins()) == hashes(first)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    whole = hashes(stand_in.write_stand_ins())
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert hashes(stand_in.write_stand_ins()) == whole


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        (Instructions(codec=BPE), {"train": 990, "test": 110}),
        (Preferences(codec=BPE), {"train": 968, "test": 132}),
        (SentencePairs(), {"train": 2800, "validation": 200, "test": 200}),
        (Chorales(), {"train": 90, "validation": 20, "test": 20}),
        (TFDS("mnist"), {"train": 6000, "test": 1000}),
        (
            TFDS("cifar10", size=(16, 16), validation=500),
            {"train": 5500, "validation": 500, "test": 1000},
        ),
    ],
    ids=["instructions", "preferences", "pairs", "chorales", "mnist", "cifar10"],
)
def test_sources_without_a_root_read_them_and_say_so(source, sizes, capfd):
    assert {name: len(split) for name, split in source.open().splits.items()} == sizes
    source.open()
    assert len(re.findall("GENJAX_DATA is not set", capfd.readouterr().err)) == 1


@pytest.mark.parametrize("pattern", ["books/*.txt.gz", "names.txt", "tinyshakespeare.txt"])
def test_texts_have_the_names_of_the_real_ones(pattern):
    assert len(TextFiles(pattern=pattern).open().splits["train"]) > 0


@pytest.mark.parametrize(("name", "channels"), [("mnist", 1), ("fashion_mnist", 1), ("cifar10", 3)])
def test_pictures_of_a_class_are_nearer_to_their_mean_than_to_others(name, channels):
    drawn = stand_in.pictures(name)
    (train, of_train), (test, of_test) = drawn["train"], drawn["test"]
    assert train.shape[1:] == test.shape[1:] == ((28, 28, 1) if channels == 1 else (32, 32, 3))
    grey = [
        np.abs(x.astype(np.float32) - np.median(x, (1, 2), keepdims=True)).mean(-1)
        for x in (train, test)
    ]
    flat = [x.reshape(len(x), -1) / np.linalg.norm(x, axis=(1, 2))[:, None] for x in grey]
    means = np.stack([flat[0][of_train == k].mean(0) for k in range(10)])
    nearest = np.argmax(flat[1] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T, 1)
    assert np.mean(nearest == of_test) > 0.5


def test_sets_that_have_no_stand_in_are_refused_as_before():
    with pytest.raises(UserError, match="not prepared"):
        TFDS("cats_vs_dogs").open()


def test_a_data_folder_without_the_set_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_DATA", str(tmp_path))
    with pytest.raises(UserError, match="not prepared"):
        TFDS("mnist").open()
    with pytest.raises(UserError, match="no file"):
        Instructions(codec=BPE).open()
