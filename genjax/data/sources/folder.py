"""Folders of image files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

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
from genjax.data.images.decode import check_size, note
from genjax.data.images.files import folder_labels
from genjax.data.images.folders import Found, choose_rows, label_files, read_class_names
from genjax.data.images.index import Opened, Part, find_index
from genjax.data.images.reading import File, FileReader, common_shape, fill, in_threads, scan
from genjax.data.splits import Arrays, Lazy, Stored, dataset, digest
from genjax.errors import UserError, unknown_name

NAMED = 3  # bad files that a message names; the rest are counted


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
    source is opened, so that bad ones are found before training starts. Of a folder of 5,000 files
    or more an index is kept in the cache: afterwards only files whose size or time has changed are
    read again.

    Attributes:
      root: folder of the images.
      size: (height, width) to which images are resized and cropped in the middle; None requires
        that all have one size.
      channels: 1 (grey) or 3 (RGB); None for 3 if any image is in colour.
      test_fraction: fraction of the images held out as "test"; 0 for none. The choice depends only
        on each image's path below the root, so adding images moves no other image. It is unused if
        the root has a test split.
      on_error: what to do with unreadable or wrongly sized images: "refuse" or "skip" them.
      memory_gb: up to this size the decoded images are held in memory, or in the index, which is
        mapped into memory; larger sets are decoded as needed.
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
      cache: folder of the index; None for ~/.cache/genjax ($XDG_CACHE_HOME/genjax).
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
    cache: str | None = None

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
        roots = [root, *([] if self.test_root is None else [Path(self.test_root).expanduser()])]
        besides = [] if self.classes is None else [Path(self.classes).expanduser()]
        index = find_index(repr(self), roots, besides, self.closed, self.cache)
        if index is None:
            return self._dataset(self._read(root, None))
        if (stored := index.load()) is not None:
            return self._dataset(stored)
        with index.writing() as part:
            opened = self._read(root, part)
            data = self._dataset(opened)
            if part is not None:
                part.keep(opened, data.spec.mean)
        return data

    def _dataset(self, opened: Opened) -> Dataset:
        """Return the data set of what opening has found."""
        label, images = opened.label, opened.images
        codec = ImageCodec(*opened.shape)
        reader = FileReader(opened.files, opened.shape[:2], opened.shape[2], label)
        stored: Stored = (
            Lazy("image", reader, np.arange(len(opened.files)), codec)
            if images is None
            else Arrays("image", images, label, codec)
        )
        names, condition, rows = opened.class_names, opened.condition, opened.rows
        data = dataset(
            {name: stored.take(chosen) for name, chosen in rows.items()},
            classes=None if names is None else len(names),
            fingerprint=opened.fingerprint,
            class_names=names,
            mean=opened.mean,
        )
        data = replace(data, remarks=opened.remarks)
        if condition is None:
            return data
        return replace(
            data,
            splits={n: WithCondition(data.splits[n], condition[rows[n]]) for n in rows},
            spec=replace(data.spec, condition=self.text.width),
        )

    def _read(self, root: Path, part: Part | None) -> Opened:
        """Read all files; with ``part``, only those that changed since the last time."""
        pictures = self._collect(root)
        masks = pictures.masks if self.masks == APPLY else {}
        files = [File(n, pictures.places[n], masks.get(n)) for n in pictures.found.names]
        notes: list[str] = []
        rows: Mapping[str, np.ndarray] | None
        if part is None:
            scanned = in_threads(scan, files)
            shape = common_shape(scanned, self.size, self.channels)
            files = self._select_sound(self._check_sizes(scanned, shape), pictures, notes)
            files, images = self._decode(files, pictures, shape, notes)
        else:
            note(f"reading {len(files):,} images of {root}, and keeping an index of them")
            rows = choose_rows(pictures.found, self.root, self.test_fraction, "image")
            limit = self.memory_gb * 2**30
            scanned, shape, images = part.read(files, rows, self.size, self.channels, limit)
            files = self._select_sound(self._check_sizes(scanned, shape), pictures, notes)
        animated = sum(f.animated for f in files)
        if animated:
            notes.append(
                f"{root}: {animated:,} of {len(files):,} images are the first frame of an "
                "animation or of several pages"
            )
            note(notes[-1])
        if part is None or len(files) < len(scanned):
            rows = None
        opened = self._describe(files, images, shape, pictures, rows)
        opened = replace(opened, notes=tuple(notes))
        return opened if part is None else part.sort(opened)

    def _describe(
        self,
        files: Sequence[File],
        images: np.ndarray | None,
        shape: tuple[int, int, int],
        pictures: Pictures,
        rows: Mapping[str, np.ndarray] | None,
    ) -> Opened:
        """Find the splits (unless given), labels and conditions of usable files, and their
        fingerprint.
        """
        names = tuple(f.name for f in files)
        found = pictures.found.without(set(pictures.found.names) - set(names))
        label, class_names = self._labels(pictures, found, Path(self.root).expanduser())
        size, channels = shape[:2], shape[2]
        parts = [f"{f.name} {f.hash} {size} {channels}\n".encode() for f in files]
        if found.parts is not None or self.classes is not None or pictures.labels:
            parts.append(
                repr((found.parts, class_names, None if label is None else label.tolist())).encode()
            )
        fingerprint, condition = digest(parts), None
        if self.text is not None:
            condition = embed_captions(names, pictures.captions, self.text, self.root)
            fingerprint = digest([fingerprint.encode(), condition.data])
        rows = rows or choose_rows(found, self.root, self.test_fraction, "image")
        return Opened(
            files,
            shape,
            images,
            rows,
            label,
            class_names,
            condition,
            fingerprint,
            remarks=pictures.remarks,
        )

    def open_as(self, spec: Spec, codec: Codec) -> Dataset:
        """Open the images in the size and colours of a run, unless they are given here."""
        if not isinstance(codec, ImageCodec):
            raise UserError("the set does not fit the run, which has learned no images", "data")
        size = self.size or (codec.height, codec.width)
        return replace(self, size=size, channels=self.channels or codec.channels).open()

    def _decode(
        self,
        files: list[File],
        pictures: Pictures,
        shape: tuple[int, int, int],
        notes: list[str],
    ) -> tuple[list[File], np.ndarray | None]:
        """Return the files that can be decoded, and their images uint8 [N, H, W, C] if they fit in
        memory.
        """
        if len(files) * math.prod(shape) > self.memory_gb * 2**30:
            return files, None
        images = np.empty((len(files), *shape), np.uint8)
        decoded = in_threads(lambda i: fill(images, i, files[i]), range(len(files)))
        if any(f.error for f in decoded):
            images = images[[not f.error for f in decoded]]
        return self._select_sound(decoded, pictures, notes), images

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

    def _check_sizes(self, files: Sequence[File], shape: tuple[int, int, int]) -> Sequence[File]:
        """Return the files, with an error if their images have another size and are not resized."""
        size = shape[:2]
        if self.size is not None:
            return files
        return [
            f if f.error or f.size == size else f.with_error(_other_size(f.size, size))
            for f in files
        ]

    def _labels(
        self, pictures: Pictures, found: Found, root: Path
    ) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
        """Return labels [N] int32 and their names, or None and None."""
        given = None if self.classes is None else read_class_names(self.classes, root)
        words = pictures.labels if all(n in pictures.labels for n in found.names) else None
        if pictures.labels and words is None:
            note(f"{root}: not every image has a label in the records, so labels are ignored")
        return label_files(found, given, words)

    def _select_sound(
        self, files: Sequence[File], pictures: Pictures, notes: list[str]
    ) -> list[File]:
        """Return the files without errors; refuse the others, or report them, also in ``notes``."""
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
            notes.append(f"{found}; left out")
            note(notes[-1])
        return [f for f in files if not f.error]


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


def _other_size(size: tuple[int, int], most: tuple[int, int]) -> str:
    return (
        f"{size[0]}x{size[1]}, where most are {most[0]}x{most[1]}; size=(height, width) resizes all"
    )
