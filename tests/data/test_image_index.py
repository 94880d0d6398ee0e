"""The index of a large folder of images: equal to reading the files, and aware of every change."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genjax.data.images import index, reading
from genjax.data.sources import ImageFolder
from genjax.errors import UserError

LONG_AGO = time.time() - 1000


def save(path: Path, value: int, *, size: int = 4, old: bool = True) -> None:
    """Write an image of one colour, as old as files of a real folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(path)
    if old:
        os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(index, "SMALLEST", 10)
    monkeypatch.setattr(reading, "spread", lambda function, items: (function(x) for x in items))
    for i in range(30):
        save(tmp_path / "images" / f"{'ab'[i % 2]}" / f"{i:02}.png", i)
    return tmp_path / "images"


def source(folder: Path, **options) -> ImageFolder:
    return ImageFolder(str(folder), cache=str(folder.parent / "cache"), **options)


def everything(data) -> dict:
    return {
        name: [split.batch(np.arange(len(split)))[entry] for entry in ("image", "label")]
        for name, split in data.splits.items()
    }


def assert_same(one, two, known: dict | None = None) -> None:
    assert one.fingerprint == two.fingerprint and one.spec.class_names == two.spec.class_names
    assert np.array_equal(one.spec.mean, two.spec.mean)
    known = known or everything(two)
    for mine, theirs in zip(everything(one).values(), known.values(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def read(monkeypatch) -> list[str]:
    """Names of the files that are read from now on."""
    names: list[str] = []
    true = reading._read

    def note_and_read(place, *rest):
        names.append(Path(place).name)
        return true(place, *rest)

    monkeypatch.setattr(reading, "_read", note_and_read)
    return names


@pytest.mark.parametrize("gb", [2.0, 0.0])
def test_an_index_holds_what_the_files_hold(folder, monkeypatch, gb):
    first, second = (source(folder, memory_gb=gb).open() for _ in range(2))
    monkeypatch.setattr(index, "SMALLEST", 10**9)
    plain = source(folder, memory_gb=gb).open()
    assert_same(first, plain)
    assert_same(second, plain)
    assert all(split.in_memory == (gb > 0) for split in second.splits.values())


def test_the_second_start_reads_no_file(folder, monkeypatch):
    source(folder).open()
    names = read(monkeypatch)
    source(folder).open()
    assert not names


def test_what_changed_is_read_again_and_named(folder, monkeypatch, capsys):
    source(folder).open()
    save(folder / "a" / "02.png", 200, old=False)
    save(folder / "b" / "new.png", 201)
    (folder / "a" / "04.png").unlink()
    capsys.readouterr()
    names = read(monkeypatch)
    changed = source(folder).open()
    said = capsys.readouterr().err
    assert {"02.png", "new.png"} <= set(names)
    assert names.count("06.png") <= 1  # the first files tell the likely shape
    for what in ("1 added", "b/new.png", "1 changed", "a/02.png", "1 removed", "a/04.png"):
        assert what in said
    shutil.rmtree(folder.parent / "cache")
    assert_same(changed, source(folder).open())


def test_a_new_file_is_not_trusted_before_it_has_settled(folder, monkeypatch):
    path = folder / "a" / "00.png"
    save(path, 100, old=False)
    source(folder).open()
    before = path.stat()
    save(path, 101)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as within a tick of the clock
    assert path.stat().st_size == before.st_size
    monkeypatch.setattr(index, "SETTLED", 0)
    data = source(folder).open()
    values = {int(image.max()) for name in data.splits for image in pixels(data, name)}
    assert 101 in values and 100 not in values


def pixels(data, name: str) -> np.ndarray:
    split = data.splits[name]
    return data.codec.decode(split.batch(np.arange(len(split)))["image"])


def test_a_damaged_file_is_named_each_time(folder, capsys):
    source(folder).open()
    bad = folder / "a" / "08.png"
    bad.write_bytes(bad.read_bytes()[:-20])
    with pytest.raises(UserError, match="a/08.png"):
        source(folder).open()
    for _ in range(2):
        capsys.readouterr()
        data = source(folder, on_error="skip").open()
        assert sum(map(len, data.splits.values())) == 29
        assert "a/08.png" in capsys.readouterr().err
    os.utime(bad, (LONG_AGO, LONG_AGO))
    for _ in range(2):
        capsys.readouterr()
        data = source(folder, on_error="skip").open()
        assert sum(map(len, data.splits.values())) == 29
        assert "a/08.png" in capsys.readouterr().err


def test_images_of_another_size_or_in_colour_come_late(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(reading, "GUESSED", 1)
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(folder / "a" / "00.png")  # grey, the first
    data = source(folder).open()
    assert data.spec.shape == (4, 4, 3)
    save(folder / "a" / "00.png", 7, size=6)
    with pytest.raises(UserError, match="a/00.png .*6x6, where most are 4x4"):
        source(folder).open()
    assert source(folder, size=(4, 4)).open().spec.shape == (4, 4, 3)


@pytest.mark.parametrize("name", ["header.json", "images", "mean.npy", "label.npy"])
def test_a_damaged_index_is_written_again(folder, name, capsys):
    whole = source(folder).open()
    known = everything(whole)  # its images are mapped from the file that is cut
    (path,) = (folder.parent / "cache").glob(f"images-*/*/{name}")
    path.write_bytes(path.read_bytes()[:-5])
    capsys.readouterr()
    assert_same(source(folder).open(), whole, known)
    assert "damaged" in capsys.readouterr().err
    capsys.readouterr()
    assert_same(source(folder).open(), whole, known)
    assert "damaged" not in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_no_obstacle(folder, capsys):
    (folder.parent / "cache").write_text("a file", encoding="utf-8")
    assert sum(map(len, source(folder).open().splits.values())) == 30
    assert "no index is kept" in capsys.readouterr().err


def test_old_indexes_make_room(folder, monkeypatch):
    source(folder).open()
    monkeypatch.setattr(index, "MOST", 1)
    source(folder, size=(3, 3)).open()
    assert len(list((folder.parent / "cache").glob("images-*"))) == 1


def test_children_read_as_this_process_does(folder, monkeypatch):
    here = source(folder).open()
    shutil.rmtree(folder.parent / "cache")
    monkeypatch.undo()
    monkeypatch.setattr(index, "SMALLEST", 10)
    assert_same(source(folder).open(), here)


def test_links_that_turn_in_circles_end(folder):
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "b" / "broken").symlink_to(folder / "nothing")
    listing = index.list_trees([folder], closed=False)
    assert len([line for line in listing.lines if line.split("\0")[0].endswith(".png")]) == 30
