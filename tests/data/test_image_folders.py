"""Folders of images as people have them: splits, classes from a file, captions, masks."""

import csv
import json
import re
import wave

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from genjax.data.images.folders import pair_masks, read_class_names
from genjax.data.sources import ImageFolder, WavFolder
from genjax.data.text.hashed import HashedText
from genjax.errors import UserError

TEXT = HashedText(16)


def save(path, value=0, size=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)


def values(data, split):
    """The grey value of each image of a split, sorted."""
    part = data.splits[split]
    batch = part.batch(np.arange(len(part)))
    return sorted(data.codec.decode(batch["image"])[:, 0, 0, 0].tolist())


def labels(data, split):
    part = data.splits[split]
    return part.batch(np.arange(len(part)))["label"].tolist()


@pytest.mark.parametrize("memory", [2.0, 0.0])
@pytest.mark.parametrize(
    ("folders", "wanted"),
    [
        (("train", "val", "test"), {"train": [0, 1], "validation": [10, 11], "test": [20, 21]}),
        (("Training", "dev"), {"train": [0, 1], "validation": [10, 11]}),
        (("train", "Valid"), {"train": [0, 1], "validation": [10, 11]}),
        (("train", "testing"), {"train": [0, 1], "test": [10, 11]}),
        (
            ("training", "validation", "test"),
            {"train": [0, 1], "validation": [10, 11], "test": [20, 21]},
        ),
    ],
)
def test_folders_called_so_are_splits(tmp_path, capsys, folders, wanted, memory):
    for place, folder in enumerate(folders):
        for n in range(2):
            save(tmp_path / folder / f"{n}.png", 10 * place + n)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").write_text("{}")
    data = ImageFolder(str(tmp_path), memory_gb=memory).open()
    assert {name: values(data, name) for name in data.splits} == wanted
    assert data.spec.classes is None
    assert f"{', '.join(sorted(folders))} are splits" in capsys.readouterr().err


def test_folders_below_splits_are_classes_and_a_lone_train_is_held_out_from(tmp_path):
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            for n in range(5):
                save(tmp_path / split / name / f"{n}.png", 10 * label + n)
    data = ImageFolder(str(tmp_path)).open()
    assert data.spec.classes == 2 and data.spec.class_names == ("cat", "dog")
    assert labels(data, "train") == labels(data, "test") == [0] * 5 + [1] * 5
    alone = tmp_path / "alone"
    (tmp_path / "train").rename(alone / "train") if alone.mkdir() is None else None
    data = ImageFolder(str(alone), test_fraction=0.4).open()
    assert len(data.splits["train"]) + len(data.splits["test"]) == 10 and data.spec.classes == 2


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("train", "bus"):
        save(tmp_path / name / "a.png")
        save(tmp_path / name / "b.png")
    data = ImageFolder(str(tmp_path), test_fraction=0).open()
    assert data.spec.class_names == ("bus", "train")
    for name in ("bus", "test", "train"):
        save(tmp_path / name / "c.png")
    with pytest.raises(
        UserError, match=r"the splits test and train, but images in bus, too"
    ) as error:
        ImageFolder(str(tmp_path)).open()
    assert error.value.field == "splits"
    data = ImageFolder(str(tmp_path), test_fraction=0, splits=False).open()
    assert data.spec.class_names == ("bus", "test", "train")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("val", "test"), "the folders test and val, but none called train"),
        (("train", "val", "dev"), "the folders dev and val .* are both the split 'validation'"),
        (
            ("train/cat", "train/dog", "test/cat", "test/eel"),
            r"test/eel/a.png: unknown class 'eel'",
        ),
        (("train/cat", "train/dog", "test"), "test/a.png must lie in the folder of a class"),
    ],
)
def test_splits_that_do_not_fit_are_refused(tmp_path, folders, message):
    for folder in folders:
        save(tmp_path / folder / "a.png")
    with pytest.raises(UserError, match=message):
        ImageFolder(str(tmp_path)).open()


def test_a_test_folder_of_its_own(tmp_path):
    for n in range(3):
        save(tmp_path / "mine" / "cat" / f"{n}.png", n)
        save(tmp_path / "mine" / "dog" / f"{n}.png", 10 + n)
        save(tmp_path / "other" / "dog" / f"{n}.png", 20 + n)
    source = ImageFolder(str(tmp_path / "mine"), test_root=str(tmp_path / "other"))
    data = source.open()
    assert values(data, "train") == [0, 1, 2, 10, 11, 12] and values(data, "test") == [20, 21, 22]
    assert labels(data, "test") == [1, 1, 1]
    save(tmp_path / "other" / "dog" / "0.png", 99)
    assert source.open().fingerprint != data.fingerprint
    save(tmp_path / "split" / "train" / "a.png")
    save(tmp_path / "split" / "test" / "a.png")
    with pytest.raises(UserError, match="leave one of them out") as error:
        ImageFolder(str(tmp_path / "split"), test_root=str(tmp_path / "other")).open()
    assert error.value.field == "test_root"


@pytest.mark.parametrize(
    ("name", "text", "keys"),
    [
        ("names.txt", "dog\ncat\n\n", ("dog", "cat")),
        ("names.txt", "guinea pig\ncat\n", ("guinea pig", "cat")),
        ("names.json", '["dog", "cat"]', ("dog", "cat")),
        ("names.json", '{"1": "cat", "0": "dog"}', ("dog", "cat")),
        ("names.json", '{"cat": 1, "dog": 0}', ("dog", "cat")),
        ("words.txt", "n01440764 dog\nn01443537 cat, tabby\n", ("n01440764", "n01443537")),
        ("names.tsv", "d\tdog\nc\tcat\n", ("d", "c")),
        ("numbered.txt", "0 dog\n1 cat\n", ("dog", "cat")),
    ],
)
def test_class_names_from_a_file_give_the_order(tmp_path, name, text, keys):
    for place, key in enumerate(keys):
        save(tmp_path / "root" / key / "a.png", place)
        save(tmp_path / "root" / key / "b.png", place)
    (tmp_path / name).write_text(text)
    source = ImageFolder(str(tmp_path / "root"), test_fraction=0, classes=str(tmp_path / name))
    data = source.open()
    assert data.spec.class_names[1].startswith("cat") and data.spec.classes == 2
    images = data.splits["train"].batch(np.arange(4))
    assert images["label"].tolist() == data.codec.decode(images["image"])[:, 0, 0, 0].tolist()


def test_numbered_folders_take_their_names_from_the_file_and_faults_are_named(tmp_path):
    names = [f"name {n}" for n in range(11)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    for n in range(11):
        save(tmp_path / "root" / str(n) / "a.png", n)
    source = ImageFolder(
        str(tmp_path / "root"), test_fraction=0, classes=str(tmp_path / "names.txt")
    )
    batch = source.open().splits["train"].batch(np.arange(11))
    assert sorted(batch["label"].tolist()) == list(range(11))  # not 0, 1, 10, 2
    save(tmp_path / "root" / "nmae 3" / "a.png")
    with pytest.raises(UserError, match="nmae 3/a.png: unknown class 'nmae 3'.*'name 3'"):
        source.open()
    for text, message in (("", "names no class"), ("a\na", "names the class 'a' twice")):
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(UserError, match=message) as error:
            read_class_names(str(tmp_path / "bad.txt"), tmp_path)
        assert error.value.field == "classes"
    with pytest.raises(UserError, match="there is no file none.txt"):
        read_class_names("none.txt", tmp_path)


def write_records(folder, kind, records):
    path = folder / kind
    if kind.endswith(".jsonl"):
        path.write_text("\n".join(map(json.dumps, records)))
    elif kind.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    else:
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, list(records[0]))
            rows.writeheader()
            rows.writerows(records)


@pytest.mark.parametrize("memory", [2.0, 0.0])
@pytest.mark.parametrize(
    "kind", ["metadata.jsonl", "metadata.csv", "metadata.parquet", "captions.jsonl"]
)
def test_captions_of_records_are_conditions(tmp_path, capsys, kind, memory):
    for n in range(3):
        save(tmp_path / "pictures" / f"{n}.png", n)
    records = [
        {"file_name": f"pictures/{n}.png", "text": f"a thing {n}", "id": 7} for n in (2, 0, 1)
    ]
    write_records(tmp_path, kind, records)
    source = ImageFolder(str(tmp_path), test_fraction=0, text=TEXT, memory_gb=memory)
    data = source.open()
    assert data.spec.condition == 16 and data.spec.entries["condition"][0] == (16,)
    batch = data.splits["train"].batch(np.array([2, 1]))
    wanted = [TEXT.embed(f"a thing {n}") for n in (2, 1)]
    np.testing.assert_array_equal(batch["condition"], wanted)
    said = capsys.readouterr().err
    assert "3 fields 'id' of a record skipped" in said and "files skipped" not in said
    write_records(tmp_path, kind, [{**records[0], "text": "another"}, *records[1:]])
    assert source.open().fingerprint != data.fingerprint
    plain = ImageFolder(str(tmp_path), test_fraction=0).open()
    assert "condition" not in plain.splits["train"].batch(np.array([0]))
    assert "3 images have captions, which are ignored" in capsys.readouterr().err


def test_each_split_has_records_of_its_own_and_text_files_work_too(tmp_path, capsys):
    for split, n in (("train", 1), ("test", 2)):
        save(tmp_path / split / "a.png", n)
        write_records(
            tmp_path / split, "metadata.jsonl", [{"file_name": "a.png", "caption": split}]
        )
    data = ImageFolder(str(tmp_path), text=TEXT).open()
    for split in ("train", "test"):
        found = data.splits[split].batch(np.array([0]))["condition"][0]
        np.testing.assert_array_equal(found, TEXT.embed(split))
    for n in range(3):
        save(tmp_path / "kohya" / f"{n}.png", n)
    (tmp_path / "kohya" / "1.txt").write_text("one\n")
    data = ImageFolder(str(tmp_path / "kohya"), test_fraction=0, text=TEXT).open()
    assert "2 of 3 images have no caption, 0.png first" in capsys.readouterr().err
    condition = data.splits["train"].batch(np.arange(3))["condition"]
    np.testing.assert_array_equal(condition[1], TEXT.embed("one"))
    assert not condition[[0, 2]].any()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "x"}, "line 1 of metadata.jsonl has no 'file_name'; its fields are text"),
        (
            {"file_name": "b.png", "text": "x"},
            "file_name of line 1 of metadata.jsonl must be the path",
        ),
        ({"file_name": "../a.png", "text": "x"}, "must be the path of an image .*, got '../a.png'"),
        (
            {"file_name": "a.png", "text": 3},
            "'text' of line 1 of metadata.jsonl must be a text, got int",
        ),
        (
            {"file_name": "a.png", "text": "?!"},
            "the caption of a.png: a text to embed must have words",
        ),
        ({"file_name": "a.png"}, "no image of .* has a caption"),
    ],
)
def test_records_that_do_not_fit_are_named(tmp_path, record, message):
    save(tmp_path / "a.png")
    write_records(tmp_path, "metadata.jsonl", [record])
    with pytest.raises(UserError, match=message):
        ImageFolder(str(tmp_path), test_fraction=0, text=TEXT).open()


def test_labels_columns_and_conditions_of_records(tmp_path, capsys):
    for n in range(4):
        save(tmp_path / f"{n}.png", n)
        save(tmp_path / "canny" / f"{n}.png", 100)
    records = [
        {
            "file_name": f"{n}.png",
            "additional": f"note {n}",
            "text": "same",
            "label": "ab"[n % 2],
            "conditioning_image": f"canny/{n}.png",
        }
        for n in range(4)
    ]
    write_records(tmp_path, "metadata.jsonl", records)
    source = ImageFolder(str(tmp_path), test_fraction=0, text=TEXT, caption="additional")
    data = source.open()
    assert values(data, "train") == [0, 1, 2, 3] and labels(data, "train") == [0, 1, 0, 1]
    assert data.spec.class_names == ("a", "b")
    condition = data.splits["train"].batch(np.array([3]))["condition"][0]
    np.testing.assert_array_equal(condition, TEXT.embed("note 3"))
    assert "4 images named as 'conditioning_image' of others" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown column 'additionl'.*'additional'"):
        ImageFolder(str(tmp_path), text=TEXT, caption="additionl").open()
    write_records(tmp_path, "captions.jsonl", records)
    with pytest.raises(UserError, match=r"metadata.jsonl and captions.jsonl: keep one of them"):
        source.open()


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.jpg", "masks/a.png"),
        ("Images/a.jpg", "Masks/a.png"),
        ("train/imgs/a.jpg", "train/mask/a.png"),
        ("a.jpg", "masks/a.png"),
        ("images/a.jpg", "masks/a_mask.png"),
        ("a.jpg", "a_mask.png"),
        ("deep/a.jpg", "deep/a-Mask.png"),
    ],
)
def test_a_mask_is_that_of_the_image_it_is_named_after(image, mask):
    assert pair_masks([image, mask, "other/b.png"]) == {mask: image}
    assert pair_masks([mask, "images/b.png"]) == {}


def test_masks_are_no_examples_and_may_cut_out(tmp_path, capsys):
    for n in range(3):
        save(tmp_path / "images" / f"{n}.png", 40 + n)
        save(tmp_path / "masks" / f"{n}.png")
        mask = np.zeros((4, 4), np.uint8)
        mask[:2] = 255 if n else 1
        Image.fromarray(mask).save(tmp_path / "masks" / f"{n}.png")
    data = ImageFolder(str(tmp_path), test_fraction=0).open()
    assert values(data, "train") == [40, 41, 42] and data.spec.classes is None
    assert "3 files are not examples: 3 masks" in capsys.readouterr().err
    for memory in (2.0, 0.0):
        data = ImageFolder(str(tmp_path), test_fraction=0, masks="apply", memory_gb=memory).open()
        batch = data.codec.decode(data.splits["train"].batch(np.arange(3))["image"])[..., 0]
        assert (batch[:, :2] == np.array([40, 41, 42])[:, None, None]).all()
        assert (batch[:, 2:] == 255).all()
    assert (
        len(ImageFolder(str(tmp_path), test_fraction=0, masks="keep").open().splits["train"]) == 6
    )
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(UserError, match=re.escape("1 of 3 images")) as error:
        ImageFolder(str(tmp_path), test_fraction=0, masks="apply").open()
    assert error.value.field == "masks"


def test_folders_of_sounds_have_splits_and_class_names_too(tmp_path):
    for split, count in (("train", 3), ("valid", 1)):
        for name in ("hi", "ho"):
            for n in range(count):
                path = tmp_path / split / name / f"{n}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                with wave.open(str(path), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes(bytes(32))
    data = WavFolder(str(tmp_path), rate=8000, length=16).open()
    assert {n: len(s) for n, s in data.splits.items()} == {"train": 6, "validation": 2}
    assert data.spec.class_names == ("hi", "ho") and labels(data, "validation") == [0, 1]
