"""Folders of image files."""

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
from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Codec, Dataset, Spec
from genjax.data.images.collect import (
    APPLY,
    MASKS,
    Pictures,
    WithCondition,
    collect,
    embed_captions,
)
from genjax.data.images.decode import check_size, decode, header, note
from genjax.data.images.files import folder_labels
from genjax.data.images.folders import Found, choose_rows, label_files, read_class_names
from genjax.data.splits import Arrays, Lazy, Raw, Stored, dataset, digest
from genjax.errors import UserError, unknown_name

NAMED = 3  # bad files that a message names; the rest are counted
NOTED = 20_000  # number of images from which decoding is announced

T = TypeVar("T")


@checks.frozen
class ImageFolder:
    """Reads the images below a folder, in all formats that Pillow decodes on its own; of animations
    the first frame.

    Links to folders are followed. Hidden files and files of other kinds are skipped and counted in
    one line. If every image is in one of at least two folders directly under the root, these
    folders are the labels, in alphabetical order; a folder without images is refused. Folders
    train, val (valid, validation, dev) and test directly under the root are splits, which contain
    the folders of labels. Captions come from ``metadata.jsonl``, ``.csv`` or ``.parquet``, or from
    ``captions.jsonl``, beside the images, with a ``file_name`` and a ``text`` each and perhaps a
    ``label``; or from a text file with the name of each image. Every file is read once when the
    source is opened, so that bad ones are found before training starts.

    Attributes:
      root: folder of the images.
      size: (height, width) to which images are resized and cropped in the middle; None requires
        that all have one size.
      channels: 1 (grey) or 3 (RGB); None for 3 if any image is in colour.
      test_fraction: fraction of the images held out as "test"; 0 for none. The choice depends only
        on each image's path below the root, so adding images moves no other image. It is unused if
        the root has a test split.
      on_error: what to do with unreadable or wrongly sized images: "refuse" or "skip" them.
      memory_gb: up to this size the decoded images are held in memory; larger sets are decoded as
        needed.
      closed: whether links that lead out of the root are skipped, for folders from strangers.
      splits: whether folders called train, val and test are splits; otherwise they are labels.
      test_root: another folder, whose images are the test split.
      classes: file with the names of the classes in their order, one per line or in JSON; folders
        and labels have these names, or their numbers.
      text: embedding of captions, such as ``HashedText``; None ignores captions.
      caption: field of the captions; None for text, caption or prompt.
      masks: what to do with masks in a folder masks beside images, in files such as "a_mask.png",
        or named by a record: "skip" them, "apply" them by painting the outside white, or "keep"
        them as images.
    """

    root: str
    size: tuple[int, int] | None = None
    channels: int | None = None
    test_fraction: float = 0.1
    on_error: str = "refuse"
    memory_gb: float = 2.0
    closed: bool = False
    splits: bool = True
    test_root: str | None = None
    classes: str | None = None
    text: Component = None
    caption: str | None = None
    masks: str = "skip"

    def __post_init__(self) -> None:
        if self.masks not in MASKS:
            raise unknown_name("masks", self.masks, MASKS)
        if self.caption is not None and self.text is None:
            raise UserError("text must be given with caption, to embed the captions", "text")
        check_size(self.size)
        if self.channels not in (None, 1, 3):
            raise UserError(
                f"channels must be 1 (grey), 3 (RGB) or None, got {self.channels}", "channels"
            )
        checks.share(self, "test_fraction")
        if self.on_error not in ("refuse", "skip"):
            raise UserError(
                f"on_error must be 'refuse' or 'skip', got {self.on_error!r}", "on_error"
            )

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, H, W, C], with labels ``label``
        int32 [B], and with captions ``condition`` float32 [B, text.width].

        Raises:
          UserError: there is no folder or image, images are bad and not skipped, nothing is left to
            train on, splits have different classes, or a record names no image.
        """
        root = Path(self.root).expanduser()
        pictures = self._collect(root)
        files, size = self._scan(pictures)
        animated = sum(f.animated for f in files)
        if animated:
            note(
                f"{root}: {animated:,} of {len(files):,} images are the first frame of an "
                "animation or of several pages"
            )
        channels = self.channels or (3 if any(f.colour for f in files) else 1)
        codec = ImageCodec(*size, channels)

        files, images = self._decode(files, pictures, (*size, channels))
        names = tuple(f.name for f in files)
        found = pictures.found.without(set(pictures.found.names) - set(names))
        label, class_names = self._labels(pictures, found, root)
        stored: Stored = (
            Lazy("image", FileReader(files, size, channels, label), np.arange(len(files)), codec)
            if images is None
            else Arrays("image", images, label, codec)
        )
        rows = choose_rows(found, self.root, self.test_fraction, "image")
        splits = {name: stored.take(chosen) for name, chosen in rows.items()}
        classes = None if class_names is None else len(class_names)
        parts = [f"{f.name} {f.hash} {size} {channels}\n".encode() for f in files]
        if found.parts is not None or self.classes is not None or pictures.labels:
            parts.append(
                repr((found.parts, class_names, None if label is None else label.tolist())).encode()
            )
        data = dataset(splits, classes=classes, fingerprint=digest(parts), class_names=class_names)
        data = replace(data, remarks=pictures.remarks)
        if self.text is None:
            return data
        condition = embed_captions(names, pictures.captions, self.text, self.root)
        return replace(
            data,
            splits={n: WithCondition(data.splits[n], condition[rows[n]]) for n in rows},
            spec=replace(data.spec, condition=self.text.width),
            fingerprint=digest([data.fingerprint.encode(), condition.data]),
        )

    def open_as(self, spec: Spec, codec: Codec) -> Dataset:
        """Open the images in the size and colours of a run, unless they are given here."""
        if not isinstance(codec, ImageCodec):
            raise UserError("the set does not fit the run, which has learned no images", "data")
        size = self.size or (codec.height, codec.width)
        return replace(self, size=size, channels=self.channels or codec.channels).open()

    def _decode(
        self, files: list[File], pictures: Pictures, shape: tuple[int, int, int]
    ) -> tuple[list[File], np.ndarray | None]:
        """Return the files that can be decoded, and their images uint8 [N, H, W, C] if they fit in
        memory.
        """
        if len(files) * math.prod(shape) > self.memory_gb * 2**30:
            return files, None
        images = np.empty((len(files), *shape), np.uint8)
        if len(files) > NOTED:
            note(f"decoding {len(files):,} images of {self.root}")
        decoded = _threads(lambda i: _fill(images, i, files[i]), range(len(files)))
        if any(f.error for f in decoded):
            images = images[[not f.error for f in decoded]]
        return self._select_sound(decoded, pictures), images

    def _collect(self, root: Path) -> Pictures:
        """Collect the images of the root and of ``test_root``."""
        apart = [] if self.test_root is None else [Path(self.test_root).expanduser()]
        both = [
            collect(
                folder,
                splits=self.splits and folder is root,
                closed=self.closed,
                masks=self.masks,
                caption=self.caption,
                texts=self.text is not None,
            )
            for folder in (root, *apart)
        ]
        pictures = both[0].beside(both[1]) if len(both) > 1 else both[0]
        if pictures.captions and self.text is None:
            note(
                f"{root}: {len(pictures.captions):,} images have captions, which are ignored; "
                "set text=HashedText() to use them"
            )
        if self.masks == APPLY:
            bare = [name for name in pictures.found.names if name not in pictures.masks]
            if bare:
                raise UserError(
                    f"{len(bare):,} of {len(pictures.found.names):,} images of {root} have no "
                    f"mask, {bare[0]} first; set masks='skip' to use none",
                    "masks",
                )
        return pictures

    def _scan(self, pictures: Pictures) -> tuple[list[File], tuple[int, int]]:
        """Return the usable files and the size of their images."""
        masks = pictures.masks if self.masks == APPLY else {}
        files = [File(n, pictures.places[n], masks.get(n)) for n in pictures.found.names]
        scanned = _threads(_scan, files)
        sizes = Counter(f.size for f in scanned if not f.error)
        size = self.size or (sizes.most_common(1)[0][0] if sizes else (1, 1))
        if self.size is None:
            scanned = [
                f if f.error or f.size == size else f.with_error(_other_size(f.size, size))
                for f in scanned
            ]
        return self._select_sound(scanned, pictures), size

    def _labels(
        self, pictures: Pictures, found: Found, root: Path
    ) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
        """Return labels [N] int32 and their names, or None and None."""
        given = None if self.classes is None else read_class_names(self.classes, root)
        words = pictures.labels if all(n in pictures.labels for n in found.names) else None
        if pictures.labels and words is None:
            note(f"{root}: not every image has a label in the records, so labels are ignored")
        return label_files(found, given, words)

    def _select_sound(self, files: Sequence[File], pictures: Pictures) -> list[File]:
        """Return the files without errors; refuse or report the others."""
        bad = [f"{f.name} ({f.error})" for f in files if f.error]
        if bad:
            more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
            found = f"{len(bad):,} of {len(files):,} images in {self.root} cannot be used: "
            found += ", ".join(bad[:NAMED]) + more
            if self.on_error == "refuse":
                raise UserError(f"{found}; set on_error='skip' to leave them out")
            if len(bad) == len(files):
                raise UserError(found)
            _check_classes(self.root, files, pictures)
            note(f"{found}; left out")
        return [f for f in files if not f.error]


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
            loaded = _fill(images, i, self.files[row])
            if loaded.error:
                raise UserError(f"{loaded.place}: {loaded.error}")
        return images, None if self.label is None else self.label[rows]


def _scan(file: File) -> File:
    try:
        content = file.place.read_bytes()
        if not content:
            return file.with_error("the file is empty")
        found = header(content)
        mask = [] if file.mask is None else [file.mask.read_bytes()]
        for part in mask:
            header(part)
    except Exception as error:  # PIL's readers raise almost anything on a damaged file
        return file.with_error(_why(error))
    return replace(
        file,
        size=found.size,
        colour=found.colour,
        animated=found.animated,
        hash=digest([content, *mask]),
    )


def _fill(images: np.ndarray, row: int, file: File) -> File:
    """Decode ``file`` into row ``row`` of images [N, H, W, C]; return it, with an error if that
    failed.
    """
    height, width, channels = images.shape[1:]
    try:
        images[row] = decode(file.place.read_bytes(), (height, width), channels)
        if file.mask is not None:
            mask = decode(file.mask.read_bytes(), (height, width), 1).astype(np.float32)
            share = mask / (255 if mask.max() > 1 else 1)  # some masks use 1 instead of 255
            images[row] = np.rint(images[row] * share + 255 * (1 - share))
    except Exception as error:  # as above
        return file.with_error(_why(error))
    return file


def _check_classes(root: str, files: Sequence[File], pictures: Pictures) -> None:
    """Refuse to skip all images of a class."""
    inside = dict(zip(pictures.found.names, pictures.found.inside, strict=True))
    if folder_labels([inside[f.name] for f in files])[0] is None:
        return
    tops = [inside[f.name].split("/")[0] for f in files]
    left = Counter(tops) - Counter(top for top, f in zip(tops, files, strict=True) if f.error)
    for top in sorted(set(tops) - set(left)):
        first = next(f for f in files if inside[f.name].startswith(f"{top}/"))
        raise UserError(
            f'class "{top}" of {root} has no image that can be used: {first.name} ({first.error}) '
            f"and {tops.count(top) - 1:,} more; fix them, or move the folder out of {root}",
            f"{root}/{top}",
        )


def _why(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _other_size(size: tuple[int, int], most: tuple[int, int]) -> str:
    return (
        f"{size[0]}x{size[1]}, where most are {most[0]}x{most[1]}; size=(height, width) resizes all"
    )


def _threads(function: Callable[[T], File], items: Iterable[T]) -> list[File]:
    """Apply ``function`` to every item in threads, in order: reading, hashing and decoding release
    the GIL.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))
