"""Keep what was read of a large folder of images, so that it opens at once the next time.

An index lies in the cache: the decoded images in one file that is mapped into memory, and what is
known of each image file. It holds as long as names, sizes and times of change below the folder are
the same. If some differ, only those files are read again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from genjax.data.images.decode import note
from genjax.data.images.listing import Listing, list_trees
from genjax.data.images.reading import File, common_shape, guess_shape, read_many
from genjax.data.splits import digest
from genjax.data.storage import cache_folder

FORMAT = 1  # raised when the content of an index would change
SMALLEST = 5_000  # files below the folder; fewer are read in about a second
SETTLED = 2_000_000_000  # nanoseconds; a file that is newer may change without a new time
MOST = 10 * 2**30  # bytes of all indexes together; those unused for the longest time go first
COPIED = 4096  # images copied at once


@dataclass(frozen=True)
class Opened:
    """What opening a folder of images found.

    Attributes:
      files: usable files; their order is that of the rows.
      shape: shape [H, W, C] of an image.
      images: decoded images uint8 [N, H, W, C]; None to decode them as needed.
      rows: rows of each split.
      label: labels [N] int32, or None.
      class_names: names of the labels, or None.
      condition: embedded captions float32 [N, D], or None.
      fingerprint: hash of names, contents and labels.
      mean: mean training image; None if it is not known yet.
      remarks: lines on what was skipped, kept with the run.
      notes: further lines to print.
    """

    files: Sequence[File]
    shape: tuple[int, int, int]
    images: np.ndarray | None
    rows: Mapping[str, np.ndarray]
    label: np.ndarray | None
    class_names: tuple[str, ...] | None
    condition: np.ndarray | None
    fingerprint: str
    mean: np.ndarray | None = None
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_index(
    source: str, roots: Sequence[Path], besides: Sequence[Path], closed: bool, cache: str | None
) -> Index | None:
    """Return the index of a source; None if its folders are small or missing.

    Args:
      source: description of the source, with all options.
      roots: folders of the images.
      besides: further files that the source reads.
      closed: see ``list_trees``.
      cache: folder of caches; None for the default.
    """
    if not all(root.is_dir() for root in roots):
        return None
    listing = list_trees(roots, closed)
    if len(listing.lines) < SMALLEST:
        return None
    parts = [f"{FORMAT} {PIL.__version__} {source}", *(os.path.realpath(root) for root in roots)]
    contents = [path.read_bytes() for path in besides if path.is_file()]
    key = digest([*(part.encode("utf-8", "surrogateescape") for part in parts), *contents])
    return Index(cache_folder(cache) / f"images-{key}", listing, str(roots[0]))


@dataclass(frozen=True)
class Index:
    """The index of one source, with all its options.

    Attributes:
      home: folder of the index; inside, the state of each listing has its own folder.
      listing: what is below the folders of the source now.
      title: name of the source in messages.
    """

    home: Path
    listing: Listing
    title: str

    def load(self) -> Opened | None:
        """Return what was stored of this listing; None if there is nothing, if it is damaged, or if
        files were so new then that they may have changed since.
        """
        place = self.home / self.listing.digest
        if not place.exists():
            return None
        stored = _Stored.read(place)
        if stored is None:
            note(f"the index {place} is damaged or of another version: reading the images again")
            return None
        if stored.header["recent"]:
            return None
        with contextlib.suppress(OSError):
            os.utime(self.home)  # used last
        for line in (*stored.header["remarks"], *stored.header["notes"]):
            note(line)
        return stored.opened()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Part | None]:
        """Provide a folder for a new state; None if there is no room or no permission. What is not
        kept is removed.
        """
        part = self.home / f"{secrets.token_hex(4)}.part"
        try:
            part.mkdir(parents=True)
        except OSError as error:
            note(f"{self.title}: no index is kept in {self.home}: {error.strerror or error}")
            yield None
            return
        try:
            yield Part(part, self)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def find_older(self) -> _Stored | None:
        """Return the newest state of another listing, or of this one with files that were too new;
        None without one.
        """
        found = [path for path in self.home.iterdir() if path.suffix != ".part"]
        for path in sorted(found, key=lambda path: -path.stat().st_mtime):
            if (stored := _Stored.read(path)) is not None:
                return stored
        return None


class Part:
    """A state of an index that is being written.

    Attributes:
      place: folder that is renamed at the end.
      index: the index.
      older: an older state, whose unchanged files are not read again.
    """

    def __init__(self, place: Path, index: Index) -> None:
        self.place, self.index = place, index
        self.older = self.index.find_older()
        self._row: dict[str, int] = {}  # of each file's image
        self._known = {} if self.older is None else self.older.unchanged(self.index.listing)
        if self.older is not None:
            self.older.note_changes(self.index.listing, self.index.title)

    def read(
        self,
        files: Sequence[File],
        rows: Mapping[str, np.ndarray],
        size: tuple[int, int] | None,
        channels: int | None,
        limit: float,
    ) -> tuple[list[File], tuple[int, int, int], np.memmap | None]:
        """Scan and decode files.

        Args:
          files: files to read [N].
          rows: files of each split, which lie together in the array of images.
          size: size of the images; None for the most common.
          channels: channels of the images; None to find out.
          limit: bytes up to which images are decoded.

        Returns:
          The files, with errors if any; the shape of an image; and the images, or None. ``sort``
          brings the two in the same order.
        """
        order = np.concatenate(list(rows.values()))
        self._row = {files[i].name: row for row, i in enumerate(order)}
        shape = guess_shape(files, size, channels)
        for _ in range(2):
            images = self._allocate(len(files), shape, limit)
            found = self._read_unknown(files, images, size is not None)
            if (true := common_shape(found, size, channels)) == shape:
                break
            shape = true
        return found, shape, images

    def _read_unknown(
        self, files: Sequence[File], images: np.memmap | None, resizes: bool
    ) -> list[File]:
        """Read the files that are not known, and take over what is known of the others."""
        known, older = self._known, self.older
        if older is None or (images is not None and older.shape != images.shape[1:]):
            known = {}
        found = list(files)
        row = np.array([self._row[f.name] for f in files], np.int64)
        places = [
            known.get(str(f.place)) if f.mask is None or str(f.mask) in known else None
            for f in files
        ]
        left = np.array([i for i, at in enumerate(places) if at is None], np.int64)
        reused = [(i, at) for i, at in enumerate(places) if at is not None]
        for i, at in reused:
            facts = older.files[at] if older is not None else files[i]
            found[i] = File(files[i].name, files[i].place, files[i].mask, *facts_of(facts))
        if images is not None and older is not None and reused:
            source = older.images()
            if source is None:
                left, reused = np.arange(len(files)), []
            for at in range(0, len(reused), COPIED):
                assert source is not None
                mine, theirs = zip(*reused[at : at + COPIED], strict=True)
                images[row[list(mine)]] = source[list(theirs)]
        read = read_many([files[i] for i in left], row[left], images, resizes)
        for i, file in zip(left, read, strict=True):
            found[i] = file
        return found

    def _allocate(self, count: int, shape: tuple[int, int, int], limit: float) -> np.memmap | None:
        """Return an array on disk [count, H, W, C]; None if it would be larger than the limit.

        Raises:
          OSError: the disk is too full for it.
        """
        size = count * math.prod(shape)
        if not 0 < size <= limit:
            return None
        path = self.place / "images"
        with path.open("wb") as file:
            # A full disk is noticed here; later it would kill the process.
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(path, np.uint8, "r+", shape=(count, *shape))

    def sort(self, opened: Opened) -> Opened:
        """Return the same with files, labels and images in the order of the splits, so that each
        split is a part of the mapped file.
        """
        order = np.concatenate(list(opened.rows.values()))
        ends = np.cumsum([0, *map(len, opened.rows.values())])
        rows = {name: np.arange(ends[i], ends[i + 1]) for i, name in enumerate(opened.rows)}
        files, images = [opened.files[i] for i in order], opened.images
        places = [self._row[f.name] for f in files]
        if isinstance(images, np.memmap) and places != list(range(len(images))):  # some left out
            whole, path = images, self.place / "images"
            path.unlink()  # remains mapped
            images = self._allocate(len(files), opened.shape, math.inf)
            assert images is not None, "some images are left"
            for at in range(0, len(files), COPIED):
                part = slice(at, at + COPIED)
                images[part] = whole[places[part]]
        label, condition = (
            None if x is None else x[order] for x in (opened.label, opened.condition)
        )
        return replace(
            opened, files=files, images=images, rows=rows, label=label, condition=condition
        )

    def keep(self, opened: Opened, mean: np.ndarray) -> None:
        """Write what was found, and take the place of older states."""
        listing, place = self.index.listing, self.index.home / self.index.listing.digest
        found = {"label": opened.label, "condition": opened.condition, "mean": mean}
        arrays = {name: array for name, array in found.items() if array is not None}
        header = {
            "format": FORMAT,
            "shape": opened.shape,
            "rows": {name: len(rows) for name, rows in opened.rows.items()},
            "images": opened.images is not None,
            "class_names": opened.class_names,
            "fingerprint": opened.fingerprint,
            "remarks": opened.remarks,
            "notes": opened.notes,
            "recent": listing.find_recent(SETTLED),
            "arrays": list(arrays),
        }
        for name, array in arrays.items():
            np.save(self.place / f"{name}.npy", array)
        rows = [
            (f.name, str(f.place), None if f.mask is None else str(f.mask), *facts_of(f))
            for f in opened.files
        ]
        (self.place / "files.json").write_text(json.dumps(rows), encoding="utf-8")
        lines = "\0\0".join(listing.lines).encode("utf-8", "surrogateescape")
        (self.place / "listing").write_bytes(lines)
        (self.place / "header.json").write_text(json.dumps(header), encoding="utf-8")
        others = [path for path in self.index.home.iterdir() if path != self.place]
        shutil.rmtree(place, ignore_errors=True)
        self.place.rename(place)
        for path in others:
            if path.suffix != ".part" and path != place:
                shutil.rmtree(path, ignore_errors=True)
        trim(self.index.home.parent, self.index.home)


@dataclass(frozen=True)
class _Stored:
    """A state of an index on disk."""

    place: Path
    header: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @staticmethod
    def read(place: Path) -> _Stored | None:
        """Read the header of a state; None if it is damaged or of another version."""
        try:
            header = json.loads((place / "header.json").read_text(encoding="utf-8"))
            if header["format"] != FORMAT:
                return None
            size = sum(header["rows"].values()) * math.prod(header["shape"])
            if header["images"] and (place / "images").stat().st_size != size:
                return None
            arrays = {
                name: np.load(place / f"{name}.npy", allow_pickle=False)
                for name in header["arrays"]
            }
            return _Stored(place, header, arrays)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self.header["shape"]
        return height, width, channels

    @functools.cached_property
    def files(self) -> list[File]:
        rows = json.loads((self.place / "files.json").read_text(encoding="utf-8"))
        return [
            File(name, Path(place), None if mask is None else Path(mask), tuple(size), *facts)
            for name, place, mask, size, *facts in rows
        ]

    def images(self) -> np.memmap | None:
        if not self.header["images"]:
            return None
        count = sum(self.header["rows"].values())
        return np.memmap(self.place / "images", np.uint8, "r", shape=(count, *self.shape))

    def opened(self) -> Opened:
        ends = np.cumsum([0, *self.header["rows"].values()])
        rows = {name: np.arange(ends[i], ends[i + 1]) for i, name in enumerate(self.header["rows"])}
        label, condition, mean = map(self.arrays.get, ("label", "condition", "mean"))
        names, images = self.header["class_names"], self.images()
        return Opened(
            self.files if images is None else (),
            self.shape,
            images,
            rows,
            label,
            None if names is None else tuple(names),
            condition,
            self.header["fingerprint"],
            mean,
            tuple(self.header["remarks"]),
        )

    def _times(self) -> dict[str, str]:
        content = (self.place / "listing").read_bytes().decode("utf-8", "surrogateescape")
        return Listing(tuple(content.split("\0\0")), 0).times

    def unchanged(self, listing: Listing) -> dict[str, int]:
        """Return the row of each image file that is as it was, by its path; masks have row -1."""
        before, recent = self._times(), set(self.header["recent"])
        same = {n for n, t in listing.times.items() if before.get(n) == t} - recent
        found = {str(f.mask): -1 for f in self.files if f.mask is not None and str(f.mask) in same}
        return found | {str(f.place): i for i, f in enumerate(self.files) if str(f.place) in same}

    def note_changes(self, listing: Listing, title: str) -> None:
        """Print one line that names what was added, changed and removed."""
        before, after = self._times(), listing.times
        kinds = {
            "added": [name for name in after if name not in before],
            "changed": [name for name in after if before.get(name, after[name]) != after[name]],
            "removed": [name for name in before if name not in after],
        }
        parts = [f"{len(n):,} {kind} ({n[0]} first)" for kind, n in kinds.items() if n]
        if parts:
            note(f"{title}: files since the last time: {', '.join(parts)}")


def facts_of(file: File) -> tuple[tuple[int, int], bool, bool, str, str]:
    """Return what reading a file found out, in the order of the fields of ``File``."""
    return file.size, file.colour, file.animated, file.hash, file.error


def trim(cache: Path, used: Path) -> None:
    """Remove indexes that were not used for the longest time until the others fit in ``MOST``."""
    homes = [path for path in cache.glob("images-*") if path != used]
    sizes = {h: sum(p.stat().st_size for p in h.rglob("*") if p.is_file()) for h in [used, *homes]}
    for home in sorted(homes, key=lambda path: path.stat().st_mtime):
        if sum(sizes.values()) <= MOST:
            return
        shutil.rmtree(home, ignore_errors=True)
        del sizes[home]
