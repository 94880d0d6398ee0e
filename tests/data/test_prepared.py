"""Prepared sets by name: synthetic records come in where a config asks, in training alone, at
the stated share.
"""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from genjax.data.pictures import png_bytes
from genjax.data.sources.prepared import PreparedImages, PreparedTexts, Synthetic
from genjax.data.sources.table import Table
from genjax.data.sources.text import TextTables
from genjax.data.synthetic import ORIGIN
from genjax.data.text.layouts import Documents
from genjax.errors import UserError
from genjax.prepare import reading, synthetic
from genjax.prepare.preparation import Preparation
from genjax.prepare.readers import Images, Parquet, Texts
from genjax.prepare.run import prepare
from genjax.prepare.stages.splits import Decontaminated, Splits

GENERATOR = {
    "run": "gpt",
    "step": 7,
    "seed": 3,
    "drawn": 90,
    "config": "c" * 64,
    "data_fingerprint": "d",
    "origins": [],
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with prepared/words and prepared/made, prepared/faces and prepared/drawn."""
    folder = tmp_path_factory.mktemp("sets")
    (folder / "raw").mkdir()
    (folder / "raw" / "words.txt").write_text(
        "".join(f"true {number:03d}\n" for number in range(200))
    )
    for label in ("cat", "dog"):
        (folder / "raw" / label).mkdir()
        for number in range(20):
            pixels = np.full((4, 4), 10 * number + (label == "dog"), np.uint8)
            Image.fromarray(pixels).save(folder / "raw" / label / f"{number}.png")
    for name, reader in (
        ("words", Texts(("words.txt",), str(folder / "raw"), "lines")),
        ("faces", None),
    ):
        reader = reader or Images(("*/*.png",), str(folder / "raw"))
        prepare(
            Preparation((reader,), (Splits(0.2, 0.1),)),
            name,
            folder / "prepared" / name,
            say=lambda line: None,
        )
    synthetic.write(
        folder / "prepared" / "made",
        "made",
        {"text": [f"fake {n:03d}" for n in range(90)]},
        GENERATOR,
    )
    images = [png_bytes(np.full((4, 4, 1), 200 + number, np.uint8)) for number in range(30)]
    columns = {"image": images, "label": ["dog"] * 30}
    synthetic.write(folder / "prepared" / "drawn", "drawn", columns, GENERATOR)
    return folder


@pytest.fixture(autouse=True)
def here(sets, monkeypatch):
    monkeypatch.chdir(sets)


def opened(tmp_path, **changes):
    return PreparedTexts(
        "words", layout=Documents(12), cache=str(tmp_path / "cache"), **changes
    ).open()


def told(data, split):
    """The documents of a split as text."""
    corpus = data.splits[split].corpus
    return [data.codec.decode(corpus.document(number)) for number in range(len(corpus))]


def kinds(data, split):
    return [text.split()[0] for text in told(data, split)]


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3])
def test_a_mixture_of_texts_has_exactly_the_stated_share_in_training_alone(tmp_path, share):
    alone, mixed = opened(tmp_path), opened(tmp_path, synthetic=Synthetic("made", share))
    train = kinds(mixed, "train")
    real = len(told(alone, "train"))
    assert train.count("true") == real > 100
    assert train.count("fake") == round(real * share / (1 - share)) > 0
    assert abs(train.count("fake") / len(train) - share) < 1 / len(train)
    assert len(set(told(mixed, "train"))) == len(train)
    for split in ("validation", "test"):
        assert set(kinds(mixed, split)) == {"true"} and told(mixed, split) == told(alone, split)


def test_a_set_that_is_not_mixed_holds_no_synthetic_row(tmp_path):
    data = opened(tmp_path)
    assert sum(len(told(data, split)) for split in data.splits) == 200
    assert all(set(kinds(data, split)) == {"true"} for split in data.splits)
    assert [origin.kind for origin in data.origins] == ["real"]


def test_the_origins_of_a_mixture_are_told_and_its_fingerprint_is_its_own(tmp_path):
    first, again = (opened(tmp_path, synthetic=Synthetic("made", 0.25)) for _ in range(2))
    others = opened(tmp_path), opened(tmp_path, synthetic=Synthetic("made", 0.2))
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 3
    real, made = first.origins
    assert (real.name, real.kind, real.generator) == ("words", "real", None)
    assert (made.name, made.kind, made.generator) == ("made", "synthetic", GENERATOR)
    manifest = json.loads(Path(made.manifest).read_text(encoding="utf-8"))
    assert manifest["fingerprint"] == made.fingerprint and manifest["origin"] == "synthetic"


def test_domains_tell_synthetic_texts_apart(tmp_path):
    corpus = opened(tmp_path, synthetic=Synthetic("made", 0.25)).splits["train"].corpus
    assert sorted(corpus.domains) == ["synthetic/gpt", "words.txt"]


def test_a_mixture_of_images_has_exactly_the_stated_share_and_the_real_labels():
    source = PreparedImages("faces", label="label", channels=1)
    alone, mixed = (
        source.open(),
        dataclasses.replace(source, synthetic=Synthetic("drawn", 0.25)).open(),
    )
    real, train = alone.splits["train"], mixed.splits["train"]
    made = train.raw[:, 0, 0, 0] >= 200
    assert made.sum() == round(len(real) / 3) > 5 and len(train) == len(real) + made.sum()
    assert (
        mixed.spec.classes == 2
        and mixed.spec.class_names == ("cat", "dog") == alone.spec.class_names
    )
    assert set(train.label[made]) == {1} and set(train.label[~made]) == {0, 1}
    for split in ("validation", "test"):
        np.testing.assert_array_equal(mixed.splits[split].raw, alone.splits[split].raw)
        assert (mixed.splits[split].raw < 200).all()


def test_a_class_that_no_real_image_is_of_is_refused(sets, tmp_path):
    images = [png_bytes(np.zeros((4, 4, 1), np.uint8))] * 30
    synthetic.write(
        tmp_path / "birds", "birds", {"image": images, "label": ["bird"] * 30}, GENERATOR
    )
    source = PreparedImages(
        "faces", label="label", channels=1, synthetic=Synthetic(str(tmp_path / "birds"), 0.25)
    )
    with pytest.raises(UserError, match=r"the class 'bird', which no image of faces has"):
        source.open()


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    columns = {"image": [b"no image at all"] * 30, "label": ["dog"] * 30}
    synthetic.write(tmp_path / "made", "made", columns, GENERATOR)
    mixed = Synthetic(str(tmp_path / "made"), 0.25)
    with pytest.raises(UserError, match=r"image \d+ of faces, train, cannot be decoded: ") as error:
        PreparedImages("faces", label="label", channels=1, synthetic=mixed).open()
    assert error.value.field == "image"


def test_images_without_a_label_and_columns_without_images_are_refused(sets, tmp_path):
    for name in ("a.png", "cat/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png_bytes(np.full((4, 4, 1), len(name), np.uint8)))
    reader = Images(("*.png", "*/*.png"), str(tmp_path))
    prepare(Preparation((reader,)), "some", tmp_path / "some", say=lambda line: None)
    with pytest.raises(UserError, match="1 images of .*some have no label: .* Missing"):
        PreparedImages(str(tmp_path / "some"), label="label", channels=1).open()
    with pytest.raises(UserError, match="the column 'source' of .*some must hold image files"):
        PreparedImages(str(tmp_path / "some"), column="source", channels=1).open()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is not a JSON object"),
        ('{"format": 1}', "has no fingerprint, name, origin, shards"),
        ("{", "damaged"),
    ],
)
def test_a_damaged_manifest_is_told(tmp_path, text, words):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=words):
        PreparedTexts(str(tmp_path)).open()


def test_too_few_synthetic_records_are_told(tmp_path):
    with pytest.raises(
        UserError,
        match=r"a share of 0\.5 besides 1\d\d real records needs 1\d\d .* but made has 90",
    ):
        opened(tmp_path, synthetic=Synthetic("made", 0.5))
    with pytest.raises(UserError, match=r"share of 0\.9 .* but drawn has 30"):
        PreparedImages("faces", channels=1, synthetic=Synthetic("drawn", 0.9)).open()
    with pytest.raises(UserError, match=r"share must be above 0 and below 1"):
        Synthetic("made", 1)


def test_each_kind_is_refused_in_the_place_of_the_other(tmp_path):
    with pytest.raises(
        UserError,
        match=r"made is synthetic: mix it into a real set with synthetic=Synthetic\('made', s",
    ):
        PreparedTexts("made").open()
    with pytest.raises(UserError, match=r"drawn is synthetic: mix it"):
        PreparedImages("drawn").open()
    with pytest.raises(UserError, match=r"words is not synthetic"):
        opened(tmp_path, synthetic=Synthetic("words", 0.25))


def test_all_files_of_a_synthetic_set_are_marked_and_those_of_a_real_one_are_not(sets):
    for name, found in (
        ("made", b"synthetic"),
        ("drawn", b"synthetic"),
        ("words", None),
        ("faces", None),
    ):
        paths = sorted((sets / "prepared" / name).glob("*.parquet"))
        assert paths and all(
            (pq.read_schema(path).metadata or {}).get(ORIGIN) == found for path in paths
        )


def readers(folder):
    """Every reader of Parquet files, on the shards of a folder."""
    shard = next(folder.glob("*.parquet"))
    parquet = Parquet((shard.name,), str(folder))
    return {
        "texts of a folder": TextTables(str(folder), "*.parquet", cache=str(folder / "cache")).open,
        "texts of a file": TextTables(str(shard), cache=str(folder / "cache")).open,
        "table": Table(str(shard)).open,
        "prepare": lambda: reading.plan_reading([parquet]),
        "decontaminate": lambda: Decontaminated((parquet,))._hash_known(),
    }


@pytest.mark.parametrize(
    "reader", ["texts of a folder", "texts of a file", "table", "prepare", "decontaminate"]
)
def test_a_reader_that_does_not_ask_never_sees_a_synthetic_row(sets, reader):
    with pytest.raises(
        UserError, match=r"holds synthetic records: .* synthetic=Synthetic\(NAME, share\)"
    ):
        readers(sets / "prepared" / "made")[reader]()


def test_a_manifest_that_calls_synthetic_files_real_is_not_believed(sets, tmp_path):
    for name, source in (("made", PreparedTexts), ("drawn", PreparedImages)):
        folder = tmp_path / name
        folder.mkdir()
        for path in (sets / "prepared" / name).glob("*.parquet"):
            (folder / path.name).write_bytes(path.read_bytes())
        text = (sets / "prepared" / name / "manifest.json").read_text()
        (folder / "manifest.json").write_text(
            text.replace('"origin": "synthetic"', '"origin": "real"')
        )
        with pytest.raises(UserError, match=r"holds synthetic records"):
            source(str(folder)).open()


def test_the_card_of_a_synthetic_set_says_so_first(sets):
    lines = (sets / "prepared" / "made" / "card.md").read_text().splitlines()
    assert lines[0] == "# SYNTHETIC: made"
    assert any(re.search(r"drawn from gpt, step 7, with seed 3", line) for line in lines)


def test_empty_texts_are_left_out_and_nothing_else_is_overwritten(sets, tmp_path):
    path = synthetic.write(tmp_path / "new", "new", {"text": ["a", "", "b"]}, GENERATOR)
    (shard,) = json.loads(path.read_text())["shards"]
    rows = pq.read_table(path.parent / shard["name"]).to_pylist()
    assert [(row["id"], row["text"]) for row in rows] == [
        ("gpt/7/3#000000000", "a"),
        ("gpt/7/3#000000002", "b"),
    ]
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(UserError, match="new exists already: choose another name, or remove it"):
        synthetic.write(tmp_path / "new", "new", {"text": ["c"]}, GENERATOR)
    with pytest.raises(UserError, match=r"all records drawn by gpt are empty"):
        synthetic.write(tmp_path / "other", "other", {"text": ["", ""]}, GENERATOR)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written"):
        synthetic.write(tmp_path / "file" / "set", "set", {"text": ["c"]}, GENERATOR)
