"""A folder of image files."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from genjax import checks
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset
from genjax.data.images.decode import check_size, decode, header, note, suffixes
from genjax.data.images.files import folder_labels, list_files, split_rows
from genjax.data.splits import Arrays, Lazy, Raw, Stored, dataset, digest
from genjax.errors import UserError

NAMED = 3  # bad files that a message names; the rest is counted
NOTED = 20_000  # images whose decoding takes long enough to say so

T = TypeVar("T")


@checks.frozen
class ImageFolder:
    """The images below a folder, of all formats that Pillow decodes by itself; of animations the
    first frame.

    Linked folders are read like others. Hidden files and those of other kinds are skipped, and
    one line counts them. Where every image lies in one of two or more folders directly under the
    root, these folders are the labels, in alphabetical order; one without any image is refused.
    Every file is read once when the source is opened, so a bad one is found before training starts.

    Attributes:
      root: the folder.
      size: (height, width) that images are resized to, covering it, and cut to in the middle; None
        asks that all have one size.
      channels: 1 (grey) or 3 (RGB); None takes 3 if any image is in colour.
      test_fraction: part of the images held out as "test"; 0 holds out none. The choice depends on
        each image's path below the root, so adding images moves no other.
      on_error: "refuse" stops at unreadable or wrongly sized images, "skip" leaves them out with a
        note.
      memory_gb: up to this size the decoded images are kept in memory; beyond, they are read as
        needed.
      closed: pass over links that lead out of the root, which a folder from somebody else may hold.
    """

    root: str
    size: tuple[int, int] | None = None
    channels: int | None = None
    test_fraction: float = 0.1
    on_error: str = "refuse"
    memory_gb: float = 2.0
    closed: bool = False

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.channels not in (None, 1, 3):
            raise UserError(f"channels is {self.channels}; it must be 1 (grey), 3 (RGB) or None")
        checks.share(self, "test_fraction")
        if self.on_error not in ("refuse", "skip"):
            raise UserError(f"on_error is {self.on_error!r}; it must be 'refuse' or 'skip'")

    def open(self) -> Dataset:
        """Batches of ``image`` float32 [B, H, W, C] and, with labels, ``label`` int32 [B].

        Raises:
          UserError: no folder, no images, bad images that are not to be skipped, nothing left to
            train on.
        """
        root = Path(self.root).expanduser()
        scanned = _threads(
            lambda name: _scan(root, name),
            list_files(root, suffixes(), "images", closed=self.closed),
        )
        sizes = Counter(f.size for f in scanned if not f.error)
        size = self.size or (sizes.most_common(1)[0][0] if sizes else (1, 1))
        if self.size is None:
            scanned = [
                f if f.error or f.size == size else f.with_error(_other_size(f.size, size))
                for f in scanned
            ]
        files = self._select_sound(scanned)
        animated = sum(f.animated for f in files)
        if animated:
            note(
                f"{root}: {animated:,} of {len(files):,} images are the first frame of an "
                "animation or of several pages"
            )
        channels = self.channels or (3 if any(f.colour for f in files) else 1)
        codec = ImageCodec(*size, channels)

        stored: Stored
        if len(files) * math.prod(size) * channels <= self.memory_gb * 2**30:
            images = np.empty((len(files), *size, channels), np.uint8)  # [N, H, W, C]
            if len(files) > NOTED:
                note(f"decoding {len(files):,} images of {root}")
            decoded = _threads(lambda i: _fill(images, i, root, files[i]), range(len(files)))
            if any(f.error for f in decoded):
                images = images[[not f.error for f in decoded]]
            files = self._select_sound(decoded)
            label, classes = folder_labels([f.name for f in files])
            stored = Arrays("image", images, label, codec)
        else:
            label, classes = folder_labels([f.name for f in files])
            read = FileReader(str(root), tuple(f.name for f in files), size, channels, label)
            stored = Lazy("image", read, np.arange(len(files)), codec)
        rows = split_rows(self.root, [f.name for f in files], self.test_fraction, "image")
        splits = {name: stored.take(chosen) for name, chosen in rows.items()}
        fingerprint = digest(f"{f.name} {f.hash} {size} {channels}\n".encode() for f in files)
        return dataset(splits, classes=classes, fingerprint=fingerprint)

    def _select_sound(self, files: Sequence[File]) -> list[File]:
        """The files without an error, once those with one are refused or noted."""
        bad = [f"{f.name} ({f.error})" for f in files if f.error]
        if bad:
            more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
            found = f"{len(bad):,} of {len(files):,} images in {self.root} cannot be used: "
            found += ", ".join(bad[:NAMED]) + more
            if self.on_error == "refuse":
                raise UserError(f"{found}; on_error='skip' leaves them out")
            if len(bad) == len(files):
                raise UserError(found)
            _check_classes(self.root, files)
            note(f"{found}; left out")
        return [f for f in files if not f.error]


@dataclass(frozen=True)
class File:
    """What a first look tells of an image file: its path below the root, its contents' hash,
    its faults.
    """

    name: str
    size: tuple[int, int] = (0, 0)
    colour: bool = False
    animated: bool = False
    hash: str = ""
    error: str = ""

    def with_error(self, error: str) -> File:
        return replace(self, error=error)


@dataclass(frozen=True)
class FileReader:
    """Rows [B] to images uint8 [B, H, W, C] and labels [B], read from the files when asked."""

    root: str
    names: tuple[str, ...]
    size: tuple[int, int]
    channels: int
    label: np.ndarray | None

    def __call__(self, rows: np.ndarray) -> Raw:
        images = np.empty((len(rows), *self.size, self.channels), np.uint8)
        for i, row in enumerate(rows):
            loaded = _fill(images, i, Path(self.root), File(self.names[row]))
            if loaded.error:
                raise UserError(f"{self.root}/{loaded.name}: {loaded.error}")
        return images, None if self.label is None else self.label[rows]


def _scan(root: Path, name: str) -> File:
    try:
        content = (root / name).read_bytes()
        if not content:
            return File(name, error="the file is empty")
        found = header(content)
    except Exception as error:  # PIL's readers raise almost anything on a damaged file
        return File(name, error=_why(error))
    return File(name, *found, hash=digest([content]))


def _fill(images: np.ndarray, row: int, root: Path, file: File) -> File:
    """Decodes ``file`` into row ``row`` of images [N, H, W, C]; returns it, with its error if
    any.
    """
    height, width, channels = images.shape[1:]
    try:
        images[row] = decode((root / file.name).read_bytes(), (height, width), channels)
    except Exception as error:  # as above
        return file.with_error(_why(error))
    return file


def _check_classes(root: str, files: Sequence[File]) -> None:
    """Refuse to leave out all images of a folder that is a label."""
    if folder_labels([f.name for f in files])[0] is None:
        return
    tops = [f.name.split("/")[0] for f in files]
    left = Counter(tops) - Counter(top for top, f in zip(tops, files, strict=True) if f.error)
    for top in sorted(set(tops) - set(left)):
        first = next(f for f in files if f.name.startswith(f"{top}/"))
        raise UserError(
            f'class "{top}" of {root} has no image that can be used: {first.name} ({first.error}) '
            f"and {tops.count(top) - 1:,} more; mend them, or move the folder out of {root}",
            f"{root}/{top}",
        )


def _why(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _other_size(size: tuple[int, int], most: tuple[int, int]) -> str:
    return (
        f"{size[0]}x{size[1]}, where most are {most[0]}x{most[1]}; size=(height, width) resizes all"
    )


def _threads(function: Callable[[T], File], items: Iterable[T]) -> list[File]:
    """``function`` of every item, in order; reading, hashing and decoding let threads run side
    by side.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))
