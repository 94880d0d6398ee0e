from __future__ import annotations

import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.data.sources import ImageFolder
from genjax.data.stream import pad_batches
from genjax.errors import UserError

RNG = np.random.default_rng(0)


def save(path: Path, height: int = 8, width: int = 6, colour: bool = False) -> np.ndarray:
    """Writes a random image; returns its pixels [H, W, C]."""
    pixels = RNG.integers(0, 256, (height, width, 3 if colour else 1), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if colour else pixels[..., 0]).save(path)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(30):
        save(tmp_path / "images" / f"{i:02}.png")
    return tmp_path / "images"


def everything(data) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([b["image"][b["mask"] == 1] for b in pad_batches(split, 4)])
        for name, split in data.splits.items()
    }


def test_pixels_are_those_of_the_files(tmp_path):
    truth = [save(tmp_path / f"{i}.png", colour=True) for i in range(3)]
    data = ImageFolder(str(tmp_path), test_fraction=0).open()
    assert (
        data.spec.shape == (8, 6, 3)
        and data.spec.classes is None
        and list(data.splits) == ["train"]
    )
    assert np.array_equal(data.codec.decode(everything(data)["train"]), truth)


def test_lazy_equals_in_memory(folder):
    memory = ImageFolder(str(folder)).open()
    lazy = ImageFolder(str(folder), memory_gb=0).open()
    assert memory.splits["train"].in_memory and not lazy.splits["train"].in_memory
    assert memory.fingerprint == lazy.fingerprint
    assert np.array_equal(memory.spec.mean, lazy.spec.mean)
    one, two = everything(memory), everything(lazy)
    assert one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def test_lazy_splits_travel_to_worker_processes(folder):
    split = ImageFolder(str(folder), memory_gb=0).open().splits["train"]
    there = pickle.loads(pickle.dumps(split))
    assert np.array_equal(there.batch(np.arange(5))["image"], split.batch(np.arange(5))["image"])


def test_split_stays_when_images_are_added(folder):
    def chosen() -> dict[str, set[bytes]]:
        data = ImageFolder(str(folder), test_fraction=0.3).open()
        return {
            name: {image.tobytes() for image in images} for name, images in everything(data).items()
        }

    before = chosen()
    assert 2 < len(before["test"]) < 20 and len(before["train"]) + len(before["test"]) == 30
    for i in range(20):
        save(folder / f"new{i}.png")
    after = chosen()
    assert before["train"] <= after["train"] and before["test"] <= after["test"]


def test_fingerprint_follows_contents(folder):
    before = ImageFolder(str(folder)).open().fingerprint
    assert before == ImageFolder(str(folder)).open().fingerprint
    save(folder / "07.png")
    assert ImageFolder(str(folder)).open().fingerprint != before


def test_few_images_still_give_a_test_split(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(UserError, match="one usable image"):
        ImageFolder(str(tmp_path)).open()
    save(tmp_path / "b.png")
    for fraction in (0.001, 0.999):
        data = ImageFolder(str(tmp_path), test_fraction=fraction).open()
        assert {name: len(split) for name, split in data.splits.items()} == {"train": 1, "test": 1}


def test_folders_are_labels(tmp_path):
    truth = {}
    for i, name in enumerate(["cat", "dog/deep", "eel"]):
        for j in range(4):
            truth[save(tmp_path / name / f"{j}.PNG").tobytes()] = i
    for memory in (2.0, 0.0):
        data = ImageFolder(str(tmp_path), memory_gb=memory).open()
        assert data.spec.classes == 3
        for split in data.splits.values():
            batch = split.batch(np.arange(len(split)))
            images = data.codec.decode(batch["image"])
            assert batch["label"].tolist() == [truth[image.tobytes()] for image in images]
    save(tmp_path / "outside.png")
    data = ImageFolder(str(tmp_path)).open()
    assert data.spec.classes is None and "label" not in data.splits["train"].batch(np.arange(2))


def test_suffixes_and_hidden_files(tmp_path):
    for name in (
        "a.PNG",
        "b.jpg",
        "c.JPEG",
        "d.bmp",
        "e.gif",
        "sub/f.webp",
        ".hidden.png",
        ".cache/g.png",
    ):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    data = ImageFolder(str(tmp_path), channels=1, test_fraction=0).open()
    assert len(data.splits["train"]) == 6


def test_channels_are_inferred(tmp_path):
    grey = [save(tmp_path / f"{i}.png") for i in range(2)]
    assert ImageFolder(str(tmp_path)).open().spec.shape == (8, 6, 1)
    assert ImageFolder(str(tmp_path), channels=3).open().spec.shape == (8, 6, 3)
    save(tmp_path / "z.png", colour=True)
    data = ImageFolder(str(tmp_path), test_fraction=0).open()
    images = data.codec.decode(everything(data)["train"])
    assert np.array_equal(images[0], np.repeat(grey[0], 3, axis=-1))


def test_modes_become_eight_bits(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(8, 6)
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "a.png")
    Image.fromarray(np.stack([pixels] * 3 + [np.zeros_like(pixels)], -1)).save(tmp_path / "b.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "c.png", exif=turned)
    data = ImageFolder(str(tmp_path), channels=1, test_fraction=0).open()
    images = data.codec.decode(everything(data)["train"])
    assert np.array_equal(images[0][..., 0], pixels)
    assert (images[1] == 255).all()  # transparent lies on white
    assert images[2].shape == (8, 6, 1)  # turned upright


def test_size_covers_and_cuts_the_middle(tmp_path):
    pixels = np.zeros((20, 60), np.uint8)
    pixels[:, 20:40] = 200
    for i in range(3):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    save(tmp_path / "small.png", 5, 4)
    data = ImageFolder(str(tmp_path), size=(10, 10), test_fraction=0).open()
    assert data.spec.shape == (10, 10, 1)
    images = data.codec.decode(everything(data)["train"]).astype(int)
    assert (
        np.abs(images[0] - 200).max() < 20
    )  # up to the filter's ringing; squeezing all 60 columns in would leave black ones


def spoil(folder: Path) -> None:
    (folder / "03.png").write_bytes(b"")
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:60])
    (folder / "08.png").write_text("no image at all")
    save(folder / "11.png", 9, 9)
    save(folder / "photo.jpg", 8, 6)
    photo = (folder / "photo.jpg").read_bytes()
    (folder / "photo.jpg").write_bytes(photo[:-40])


@pytest.mark.parametrize("memory", [2.0, 0.0])
def test_bad_images_are_all_found_and_refused(folder, memory):
    spoil(folder)
    with pytest.raises(UserError) as error:
        ImageFolder(str(folder), memory_gb=memory).open()
    text = str(error.value)
    assert "5 of 31" in text and "03.png (the file is empty)" in text and "2 more" in text
    assert "on_error='skip'" in text and "\n" not in text


@pytest.mark.parametrize("memory", [2.0, 0.0])
def test_bad_images_are_skipped_with_a_note(folder, memory, capsys):
    spoil(folder)
    data = ImageFolder(str(folder), memory_gb=memory, on_error="skip").open()
    assert sum(len(images) for images in everything(data).values()) == 26
    note = capsys.readouterr().err
    assert note.count("\n") == 1 and "5 of 31" in note and "left out" in note


def test_damage_that_only_decoding_finds(folder):
    content = bytearray((folder / "04.png").read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 12] = bytes(12)
    length = int.from_bytes(content[start - 8 : start - 4], "big")
    content[start + length : start + length + 4] = zlib.crc32(
        content[start - 4 : start + length]
    ).to_bytes(4)
    (folder / "04.png").write_bytes(content)
    with pytest.raises(UserError, match=r"1 of 30 .*04\.png"):
        ImageFolder(str(folder)).open()
    data = ImageFolder(str(folder), on_error="skip").open()
    sound = [save_free(folder / f"{i:02}.png") for i in range(30) if i != 4]
    got = {
        image.tobytes()
        for images in everything(data).values()
        for image in data.codec.decode(images)
    }
    assert got == {image.tobytes() for image in sound}


def save_free(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))[..., None]


def test_nothing_usable_is_refused_even_when_skipping(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 of 1"):
        ImageFolder(str(tmp_path), on_error="skip").open()


def test_a_file_lost_later_is_named(folder):
    split = ImageFolder(str(folder), memory_gb=0).open().splits["train"]
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"\d\d\.png"):
        split.batch(np.arange(1))


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        ImageFolder(str(tmp_path / "nowhere")).open()
    with pytest.raises(UserError, match="holds no images"):
        ImageFolder(str(tmp_path)).open()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        ImageFolder(str(tmp_path / "file")).open()


@pytest.mark.parametrize(
    "fields",
    [
        {"size": (8,)},
        {"size": (0, 8)},
        {"channels": 2},
        {"test_fraction": 1.0},
        {"on_error": "ignore"},
    ],
)
def test_bad_fields_are_refused(fields):
    with pytest.raises(UserError, match=next(iter(fields))):
        ImageFolder("anywhere", **fields)
