"""Read image files: what their headers tell, and their pixels; many of them in child processes."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from genjax.data.images.decode import decode, header
from genjax.data.splits import Raw, digest
from genjax.errors import UserError
from genjax.machine.children import spread

PART = 500  # files that a child reads at once
GUESSED = 64  # first files, whose size and colours the others are likely to have

T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """What is known of an image file before decoding: its path below the root, where it and its
    mask are, its hash, its error.
    """

    name: str
    place: Path
    mask: Path | None = None
    size: tuple[int, int] = (0, 0)
    colour: bool = False
    animated: bool = False
    hash: str = ""
    error: str = ""

    def with_error(self, error: str) -> File:
        return replace(self, error=error)


@dataclass(frozen=True)
class FileReader:
    """Reads rows [B] from files as images uint8 [B, H, W, C] and labels [B]."""

    files: Sequence[File]
    size: tuple[int, int]
    channels: int
    label: np.ndarray | None

    def __call__(self, rows: np.ndarray) -> Raw:
        images = np.empty((len(rows), *self.size, self.channels), np.uint8)
        for i, row in enumerate(rows):
            loaded = fill(images, i, self.files[row])
            if loaded.error:
                raise UserError(f"{loaded.place}: {loaded.error}")
        return images, None if self.label is None else self.label[rows]


def scan(file: File) -> File:
    """Read the header of a file and hash it; a fault is its ``error``."""
    mask = None if file.mask is None else str(file.mask)
    return File(file.name, file.place, file.mask, *_read(str(file.place), mask))


def fill(images: np.ndarray, row: int, file: File) -> File:
    """Decode ``file`` into row ``row`` of images [N, H, W, C]; return it, with an error if that
    failed.
    """
    try:
        mask = None if file.mask is None else file.mask.read_bytes()
        _decode(images, row, file.place.read_bytes(), mask)
    except Exception as error:  # PIL's readers raise almost anything on a damaged file
        return file.with_error(_why(error))
    return file


def in_threads(function: Callable[[T], File], items: Iterable[T]) -> list[File]:
    """Apply ``function`` to every item in threads, in order: reading, hashing and decoding release
    the GIL.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def read_many(
    files: Sequence[File], rows: np.ndarray, images: np.memmap | None, resizes: bool
) -> list[File]:
    """Scan many files and decode them, in child processes.

    Args:
      files: files, of which only names and places are known.
      rows: row of each file in ``images`` [N].
      images: array on disk to fill, [M, H, W, C]; None to scan only.
      resizes: whether images of other sizes are resized; otherwise they are not decoded.

    Returns:
      The files with what their headers tell, and their errors.
    """
    reader = _Reader(None if images is None else (str(images.filename), images.shape), resizes)
    parts = (slice(at, at + PART) for at in range(0, len(files), PART))
    items = (
        [(str(f.place), None if f.mask is None else str(f.mask), int(row)) for f, row in each]
        for each in (list(zip(files[part], rows[part], strict=True)) for part in parts)
    )
    with contextlib.closing(spread(reader, items)) as answers:
        found = [facts for part in answers for facts in part]
    return [File(f.name, f.place, f.mask, *facts) for f, facts in zip(files, found, strict=True)]


def guess_shape(
    files: Sequence[File], size: tuple[int, int] | None, channels: int | None
) -> tuple[int, int, int]:
    """Return the shape [H, W, C] that all images are likely to have, by the first of them."""
    return common_shape([scan(file) for file in files[:GUESSED]], size, channels)


def common_shape(
    files: Sequence[File], size: tuple[int, int] | None, channels: int | None
) -> tuple[int, int, int]:
    """Return the shape [H, W, C] of scanned images: what is given, or else the most common size,
    and three channels if any is in colour.
    """
    sizes = Counter(f.size for f in files if not f.error)
    height, width = size or (sizes.most_common(1)[0][0] if sizes else (1, 1))
    return height, width, channels or (3 if any(f.colour for f in files) else 1)


Facts = tuple[tuple[int, int], bool, bool, str, str]  # the last fields of ``File``
NOTHING = (0, 0), False, False, ""  # but an error


@dataclass(frozen=True)
class _Reader:
    """Reads a part of the files in a child process.

    Attributes:
      images: path and shape of the array to fill; None to scan only.
      resizes: whether images of other sizes are decoded.
    """

    images: tuple[str, tuple[int, ...]] | None
    resizes: bool

    def __call__(self, part: list[tuple[str, str | None, int]]) -> list[Facts]:
        images = (
            None
            if self.images is None
            else np.memmap(self.images[0], np.uint8, "r+", shape=self.images[1])
        )
        return [_read(place, mask, images, row, self.resizes) for place, mask, row in part]


def _read(
    place: str,
    mask: str | None,
    images: np.ndarray | None = None,
    row: int = 0,
    resizes: bool = False,
) -> Facts:
    """Scan a file, and decode it into a row of images [N, H, W, C] unless its size differs."""
    try:
        parts = [_load(path) for path in (place, mask) if path is not None]
        if not parts[0]:
            return *NOTHING, "the file is empty"
        head, *_ = (header(part) for part in parts)
        if images is not None and (resizes or head.size == images.shape[1:3]):
            _decode(images, row, *parts)
    except Exception as error:  # as above
        return *NOTHING, _why(error)
    return head.size, head.colour, head.animated, digest(parts), ""


def _load(path: str) -> bytes:
    """Return the content of a file; ``pathlib`` would take twice as long."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _decode(images: np.ndarray, row: int, content: bytes, mask: bytes | None = None) -> None:
    """Decode an image into a row of images [N, H, W, C]; outside its mask it is white."""
    height, width, channels = images.shape[1:]
    images[row] = decode(content, (height, width), channels)
    if mask is not None:
        inside = decode(mask, (height, width), 1).astype(np.float32)
        share = inside / (255 if inside.max() > 1 else 1)  # some masks use 1 instead of 255
        images[row] = np.rint(images[row] * share + 255 * (1 - share))


def _why(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
