from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from genjax.data.sources import TFDS
from genjax.data.stream import pad_batches
from genjax.errors import UserError
from genjax.serial.trust import Untrusted

ROOT = Path(os.environ.get("GENJAX_DATA", "/nowhere")).expanduser() / "tfds"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (ROOT / name).is_dir(),
        reason=f"needs {name} prepared in $GENJAX_DATA/tfds (GENJAX_DATA unset?)",
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def copy(name: str, tmp_path: Path) -> Path:
    """A copy of a prepared set that a test may spoil; its folder of files."""
    shutil.copytree(ROOT / name, tmp_path / "tfds" / name, copy_function=shutil.copyfile)
    for path in (tmp_path / "tfds").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return next((tmp_path / "tfds" / name).iterdir())


@needs("mnist")
def test_mnist_is_mnist():
    data = TFDS("mnist").open()
    train, test = data.splits["train"], data.splits["test"]
    assert (len(train), len(test)) == (60_000, 10_000) and data.spec.classes == 10
    assert data.spec.shape == (28, 28, 1)
    chunks = [train.batch(chunk) for chunk in np.array_split(np.arange(60_000), 30)]
    pixels = np.concatenate([chunk["image"] for chunk in chunks])
    assert pixels.min() == -1 and pixels.max() == 1
    mean, std = pixels.mean(dtype=np.float64), pixels.std(dtype=np.float64)
    assert round((mean + 1) / 2, 4) == 0.1307 and round(std / 2, 4) == 0.3081
    np.testing.assert_allclose(data.spec.mean, pixels.mean(axis=0, dtype=np.float64), atol=1e-5)
    labels = np.concatenate([chunk["label"] for chunk in chunks])
    # the published counts of each digit
    assert np.bincount(labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]

    again = TFDS("mnist", validation=5_000).open()  # from the cache
    assert again.fingerprint == data.fingerprint
    sizes = {name: len(split) for name, split in again.splits.items()}
    assert sizes == {"train": 55_000, "test": 10_000, "validation": 5_000}
    assert np.array_equal(
        again.splits["test"].batch(np.arange(50))["image"], test.batch(np.arange(50))["image"]
    )


@needs("cifar10_first4k")
def test_lazy_equals_in_memory_equals_tfds():
    import tensorflow_datasets as tfds

    memory = TFDS("cifar10_first4k", validation=100, cache=False).open()
    lazy = TFDS("cifar10_first4k", validation=100, memory_gb=0).open()
    assert {name: len(s) for name, s in lazy.splits.items()} == {
        "train": 3500,
        "test": 400,
        "validation": 100,
    }
    assert not lazy.splits["train"].in_memory and lazy.fingerprint == memory.fingerprint
    np.testing.assert_allclose(lazy.spec.mean, memory.spec.mean, atol=0.1)
    for name in lazy.splits:
        pairs = zip(
            pad_batches(memory.splits[name], 50, limit=100),
            pad_batches(lazy.splits[name], 50),
            strict=False,
        )
        for one, two in pairs:
            assert all(np.array_equal(one[key], two[key]) for key in ("image", "label", "mask"))
    seen = [lazy.splits[name].rows for name in lazy.splits]
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(4000))
    rows = seen[0][:20]
    source = tfds.data_source("cifar10_first4k", data_dir=ROOT, split="train", download=False)
    batch = lazy.splits["train"].batch(np.arange(20))
    assert np.array_equal(
        lazy.codec.decode(batch["image"]), [source[int(i)]["image"] for i in rows]
    )
    assert batch["label"].tolist() == [source[int(i)]["label"] for i in rows]


@needs("cifar10_first4k")
def test_lazy_splits_travel_to_worker_processes():
    split = TFDS("cifar10_first4k", memory_gb=0).open().splits["train"]
    there = pickle.loads(pickle.dumps(split))
    assert np.array_equal(there.batch(np.arange(5))["image"], split.batch(np.arange(5))["image"])


@needs("cifar10_first4k")
def test_cache_is_used_and_a_broken_one_is_not(tmp_path):
    def first() -> np.ndarray:
        return (
            TFDS("cifar10_first4k", size=(8, 8)).open().splits["train"].batch(np.arange(1))["image"]
        )

    truth = first()
    assert truth.shape == (1, 8, 8, 3)
    (stored,) = (tmp_path / "cache" / "genjax").iterdir()
    with np.load(stored) as content:
        changed = {name: np.zeros_like(content[name]) for name in content.files}
    np.savez(stored, **changed)
    assert (first() == -1).all()
    stored.write_bytes(stored.read_bytes()[:1000])
    assert np.array_equal(first(), truth)


@needs("tiny_shakespeare")
def test_a_set_without_images_is_refused():
    with pytest.raises(UserError, match="holds no images"):
        TFDS("tiny_shakespeare").open()


@needs("mnist")
def test_names_are_corrected():
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        TFDS("mnits").open()
    with pytest.raises(UserError, match=r"only: 3\.0\.1"):
        TFDS("mnist:9.0.0").open()


@needs("cifar10_first4k")
def test_a_name_prepared_here_is_found():
    with pytest.raises(UserError, match="did you mean 'cifar10_first4k'"):
        TFDS("cifar10_frst4k").open()


def test_what_is_not_prepared_says_how(tmp_path):
    with pytest.raises(UserError) as error:
        TFDS("mnist", root=str(tmp_path)).open()
    command = f"tfds build mnist --data_dir={tmp_path} --file_format=array_record"
    assert "pip install 'genjax-train[prepare]'" in str(error.value) and command in str(error.value)


@needs("cifar10_first4k")
def test_damaged_files_are_refused(tmp_path):
    folder = copy("cifar10_first4k", tmp_path)
    (shard,) = folder.glob("*.array_record*")
    content = bytearray(shard.read_bytes())
    source = TFDS("cifar10_first4k", root=str(tmp_path / "tfds"), cache=False)
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    shard.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        source.open()
    shard.write_bytes(content[: middle // 2])
    with pytest.raises(UserError, match=r"damaged|cannot be read"):
        source.open()
    shard.unlink()
    with pytest.raises(UserError, match="some of its files are missing"):
        source.open()


@needs("cifar10_first4k")
def test_a_tfrecord_copy_is_refused(tmp_path):
    folder = copy("cifar10_first4k", tmp_path)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for path in folder.glob("*.array_record*"):
        path.rename(folder / path.name.replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="tfrecord copy, which only TensorFlow can read"):
        TFDS("cifar10_first4k", root=str(tmp_path / "tfds")).open()


def test_root_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GENJAX_DATA", str(tmp_path))
    with pytest.raises(UserError, match=f"not prepared in {tmp_path}/tfds"):
        TFDS("mnist").open()


@needs("cifar10_first4k")
def test_holding_out_everything_is_refused():
    with pytest.raises(UserError, match="cannot hold out"):
        TFDS("cifar10_first4k", validation=4_000, memory_gb=0).open()


def test_bad_fields_are_refused():
    with pytest.raises(UserError, match="validation"):
        TFDS(validation=-1)
    with pytest.raises(UserError, match="size"):
        TFDS(size=(8,))


IMAGES = "tensorflow_datasets.core.features."
CLASSES = {
    "pythonClassName": f"{IMAGES}features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "image": {
                "pythonClassName": f"{IMAGES}image_feature.Image",
                "image": {"dtype": "uint8", "shape": {"dimensions": ["2", "2", "1"]}},
            }
        }
    },
}
ABOUT = {
    "name": "sent",
    "version": "1.0.0",
    "fileFormat": "array_record",
    "splits": [
        {
            "name": "train",
            "numBytes": "9",
            "shardLengths": ["4"],
            "filepathTemplate": "{DATASET}-{SPLIT}",
        }
    ],
}


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A set from someone else in the current folder, with a module that must not run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    (tmp_path / "payload.py").write_text("open('ran', 'w')\nclass Evil: pass\n")
    folder = tmp_path / "sent" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "features.json").write_text(json.dumps(CLASSES))
    (folder / "dataset_info.json").write_text(json.dumps(ABOUT))
    return folder


def refusal(folder):
    with pytest.raises(UserError) as refused:
        TFDS("sent", root=str(folder.parents[1])).open()
    assert "\n" not in str(refused.value)
    assert not Path("ran").exists()
    return refused.value


@pytest.mark.parametrize(
    "name", ["payload.Evil", "payload:Evil", "os.system", "genjax.payload.Evil", "antigravity.x"]
)
@pytest.mark.parametrize("key", ["pythonClassName", "type"])
@pytest.mark.parametrize("deep", [False, True])
def test_no_code_that_a_set_names_runs(name, key, deep, sent):
    evil = {key: name, "content": {}}
    features = {**CLASSES, "featuresDict": {"features": {"image": evil}}} if deep else evil
    (sent / "features.json").write_text(json.dumps(features))
    refused = refusal(sent)
    assert isinstance(refused, Untrusted) and refused.field == str(sent / "features.json")


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"[" * 100_000,
        b"\xff\xfe\xff",
        b'{"splits": {"a": 1}}',
        b'{"type": 5}',
        b'{"pythonClassName": "tensorflow_datasets.x.Y"}',
        b'{"version": "../../1", "name": "\\u0000"}',
    ],
)
def test_a_damaged_description_is_one_line(name, content, sent):
    (sent / name).write_bytes(content)
    refusal(sent)


@pytest.mark.parametrize(
    "split",
    [
        {"shardLengths": ["9000000000000"]},
        {"shardLengths": ["-5"]},
        {"shardLengths": []},
        {"filepathTemplate": "../../../etc/{SPLIT}"},
        {"filepathTemplate": "{NOTHING}"},
        {"name": "../train"},
    ],
)
def test_a_description_of_files_that_do_not_exist_is_one_line(split, sent):
    (sent / "dataset_info.json").write_text(
        json.dumps(ABOUT | {"splits": [ABOUT["splits"][0] | split]})
    )
    refusal(sent)
