"""Interpret folders as people arrange them: as splits, as classes, and as masks beside images."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from genjax.data.images.decode import note
from genjax.data.images.files import (
    entries,
    folder_labels,
    list_files,
    spelt_alike,
    split_rows,
)
from genjax.errors import UserError, unknown_name

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
IMAGES = ("images", "image", "imgs", "img")  # names of a folder beside the folder of masks
MASKS = ("masks", "mask", "segmentations", "segmentation")
MASK_NAME = re.compile(r"[ ._-]mask$", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """The files of a folder.

    Attributes:
      names: paths below the folder, with "/".
      inside: paths below the folder of the split, and below the folder of images if masks lie
        beside it.
      parts: split of each file; None if the folder has no splits.
    """

    names: tuple[str, ...]
    inside: tuple[str, ...]
    parts: tuple[str, ...] | None = None

    def without(self, left: Collection[str]) -> Found:
        """Return the files except some, such as masks."""
        kept = [n for n, name in enumerate(self.names) if name not in left]
        inside = [self.inside[n] for n in kept]
        tops = {name.split("/")[0].lower() if "/" in name else "" for name in inside}
        if left and len(tops) == 1 and tops <= set(IMAGES):
            inside = [name.partition("/")[2] for name in inside]
        parts = None if self.parts is None else tuple(self.parts[n] for n in kept)
        return Found(tuple(self.names[n] for n in kept), tuple(inside), parts)


def find_files(
    root: Path,
    suffixes: Collection[str],
    things: str,
    *,
    splits: bool = True,
    classes: bool = True,
    closed: bool = False,
    besides: Collection[str] = (),
) -> Found:
    """List the files of a folder, with their splits if the folders directly under the root are
    named after splits, including "train".

    Args:
      root: the folder.
      suffixes: suffixes in lower case.
      things: name of the files in messages.
      splits: whether folders may be splits.
      classes: whether folders are labels, see ``list_files``.
      closed: whether links that lead out of the root are skipped.
      besides: further files that are read, see ``list_files``.

    Raises:
      UserError: see ``list_files``; or two folders are the same split, or files lie outside the
        folders of splits.
    """
    list_all = partial(list_files, closed=closed, besides=besides)
    folders = _split_folders(root) if splits else {}
    if "train" not in folders.values():
        if len(folders) > 1 and not _others(root, folders, suffixes):
            raise UserError(
                f"{root} has the folders {' and '.join(sorted(folders))}, but none called train",
                str(root),
            )
        masked = any(name.lower() in MASKS for name in _folders(root))
        classes = classes and not masked
        names = tuple(list_all(root, suffixes, things, classes=classes))
        return Found(names, names)
    others = _others(root, folders, suffixes)
    if others and len(folders) == 1:  # one of several classes has the name of a split
        names = tuple(list_all(root, suffixes, things, classes=classes))
        return Found(names, names)
    if others:
        raise UserError(
            f"{root} has the splits {' and '.join(sorted(folders))}, but {things} in "
            f"{', '.join(others[:4])}, too: move them, or set splits=False to read the folders as "
            "classes",
            "splits",
        )
    for part in sorted(set(folders.values())):
        same = sorted(name for name, split in folders.items() if split == part)
        if len(same) > 1:
            raise UserError(
                f"the folders {' and '.join(same)} of {root} are both the split {part!r}: keep one",
                str(root),
            )
    found = [
        (f"{top}/{name}", name, part)
        for top, part in sorted(folders.items())
        for name in list_all(root / top, suffixes, things, classes=classes)
    ]
    note(f"{root}: the folders {', '.join(sorted(folders))} are splits")
    names, inside, parts = zip(*found, strict=True)
    return Found(names, inside, parts)


def choose_rows(found: Found, root: str, fraction: float, things: str) -> dict[str, np.ndarray]:
    """Return the rows [M] of each split; without splits, or with only "train", by ``split_rows``.

    Raises:
      UserError: there is only one file, or no file of "train" is left.
    """
    if found.parts is None or set(found.parts) == {"train"}:
        return split_rows(root, found.names, fraction, things)
    parts = np.array(found.parts)
    if "train" not in found.parts:
        raise UserError(f"the split train of {root} has no usable {things}", root)
    return {name: np.flatnonzero(parts == name) for name in sorted(set(found.parts))}


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []  # refused when the files are listed
    with os.scandir(root) as scan:
        return sorted(e.name for e in scan if not e.name.startswith(".") and e.is_dir())


def _split_folders(root: Path) -> dict[str, str]:
    """Return the split of each folder directly under the root that is named after one."""
    return {n: SPLITS[n.lower()] for n in _folders(root) if n.lower() in SPLITS}


def _others(root: Path, folders: Collection[str], suffixes: Collection[str]) -> list[str]:
    """Return the places of files with these suffixes outside the given folders."""
    inside = [
        name
        for name in _folders(root)
        if name not in folders
        and any(
            not e.fault and PurePosixPath(e.name).suffix.lower() in suffixes
            for e in entries(root, name)
        )
    ]
    with os.scandir(root) as scan:
        beside = any(
            not entry.name.startswith(".")
            and PurePosixPath(entry.name).suffix.lower() in suffixes
            and entry.is_file()
            for entry in scan
        )
    return [*inside, *([str(root)] if beside else [])]


def pair_masks(names: Sequence[str]) -> dict[str, str]:
    """Return the image of each mask: "masks/a.png" is the mask of "images/a.jpg" or "a.jpg", and
    "a_mask.png" that of "a.jpg".
    """
    if not any(word in name.lower() for name in names for word in ("mask", "segmentation")):
        return {}  # of many images at once
    by_stem = {spelt_alike(str(PurePosixPath(name).with_suffix(""))): name for name in names}
    found: dict[str, str] = {}
    for stem, name in by_stem.items():
        path = PurePosixPath(stem)
        plain = MASK_NAME.sub("", path.name)
        wanted = []
        if plain != path.name:
            wanted.append(str(path.with_name(plain)))
        for place, part in enumerate(path.parts[:-1]):
            if part.lower() in MASKS:
                before, after = path.parts[:place], (*path.parts[place + 1 : -1], plain)
                middles = [(other,) for other in _other_cases(part)]
                wanted += [str(PurePosixPath(*before, *m, *after)) for m in (*middles, ())]
        image = next((by_stem[other] for other in wanted if other in by_stem), None)
        if image is not None:
            found[name] = image
    return found


def _other_cases(mask: str) -> Iterable[str]:
    """Return the names that the folder beside a folder of masks may have, in the same case."""
    if mask.isupper():
        return (name.upper() for name in IMAGES)
    return (name.title() for name in IMAGES) if mask[0].isupper() else IMAGES


@dataclass(frozen=True)
class ClassNames:
    """Names of classes, in the order of their labels.

    Attributes:
      names: names of the labels 0, 1, …
      keys: folder name of each class; the name itself if the file gives no other.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]

    def label(self, word: str) -> int:
        """Return the label of a folder.

        Raises:
          UserError: no class has that name.
        """
        alike = spelt_alike(word)
        for known in (self.keys, self.names):
            if alike in known:
                return known.index(alike)
        if alike.isdecimal() and int(alike) < len(self.names):
            return int(alike)
        raise unknown_name("class", word, self.keys)


def read_class_names(path: str, root: Path) -> ClassNames:
    """Read the names of classes from a file: one per line, optionally after the folder's name and a
    blank ("n01440764 tench"), or a list or an object in JSON.

    Args:
      path: path of the file, relative to the current folder or to the root.
      root: folder of the images.

    Raises:
      UserError: there is no such file, or it names no class, or a class twice.
    """
    place = next((p for p in (Path(path).expanduser(), root / path) if p.is_file()), None)
    if place is None:
        raise UserError(f"there is no file {path} of class names (classes)", "classes")
    try:
        text = place.read_text(encoding="utf-8-sig")
        found = json.loads(text) if place.suffix.lower() == ".json" else text.splitlines()
    except ValueError as error:
        raise UserError(f"{place} cannot be read as class names: {error}", "classes") from None
    if isinstance(found, dict):
        items = [(str(key), str(name)) for key, name in found.items()]
        if all(key.isdecimal() for key, _ in items):
            items = [(name, name) for _, name in sorted(items, key=lambda item: int(item[0]))]
        elif all(str(value).isdecimal() for _, value in items):  # a class and its number
            items = [(n, n) for n, _ in sorted(items, key=lambda item: int(item[1]))]
    elif isinstance(found, list) and all(isinstance(name, str) for name in found):
        lines = [name.strip() for name in found if name.strip()]
        parts = [re.split(r"[\t,]|\s{1,}", line, maxsplit=1) for line in lines]
        keyed = all(len(part) == 2 and re.fullmatch(r"n\d{8}|\d+", part[0]) for part in parts)
        tabbed = all("\t" in line for line in lines)
        items = [
            (part[0].strip(), part[1].strip()) if keyed or tabbed else (line, line)
            for line, part in zip(lines, parts, strict=True)
        ]
        if items and [key for key, _ in items] == [str(n) for n in range(len(items))]:
            items = [(name, name) for _, name in items]  # numbered lines
    else:
        raise UserError(
            f"{place} must hold a list or an object of class names (classes)", "classes"
        )
    keys = tuple(spelt_alike(key) for key, _ in items)
    if not keys or len(set(keys)) < len(keys):
        twice = next((key for key, count in Counter(keys).items() if count > 1), None)
        fault = "names no class" if twice is None else f"names the class {twice!r} twice"
        raise UserError(f"{place} {fault} (classes)", "classes")
    return ClassNames(tuple(spelt_alike(name) for _, name in items), keys)


def label_files(
    found: Found, given: ClassNames | None, words: Mapping[str, str] | None = None
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Return labels [N] int32 and their names, or None and None if the files have no classes.

    The folders directly under the split's folder are classes if all files of "train" lie in such
    folders; then the files of other splits must lie in these, too.

    Args:
      found: files and splits.
      given: names and order of the classes; None for alphabetical order.
      words: class of each file by its name, which takes the place of its folder.

    Raises:
      UserError: a split has classes that "train" does not have, or none; or a class has no name.
    """
    inside = found.inside
    parts = found.parts or ("train",) * len(inside)
    if words is not None:
        tops: list[str | None] = [words[name] for name in found.names]
    else:
        tops = [name.split("/")[0] if "/" in name else None for name in inside]
        train = [name for name, part in zip(inside, parts, strict=True) if part == "train"]
        if given is None and folder_labels(train)[0] is None:
            return None, None
    for name, top, part in zip(found.names, tops, parts, strict=True):
        if top is None:
            raise UserError(
                f"{name} must lie in the folder of a class, like the files of train: move it into "
                f"one, or move the folder of {part} out of the root",
                "root",
            )
    split = zip(tops, parts, strict=True)
    known = sorted({spelt_alike(top) for top, part in split if top and part == "train"})
    names = ClassNames(tuple(known), tuple(known)) if given is None else given
    number: dict[str | None, int] = {}
    for name, top in zip(found.names, tops, strict=True):
        if top not in number:
            number[top] = _label(names, top or "", name)
    return np.array([number[top] for top in tops], np.int32), names.names


def _label(names: ClassNames, top: str, file: str) -> int:
    try:
        return names.label(top)
    except UserError as error:
        raise UserError(
            f"{file}: {error}; the classes are those of train, or of the file named in classes",
            "classes",
        ) from None
