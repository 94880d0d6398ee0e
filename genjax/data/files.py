"""What sources of files share: which files a folder holds, the labels that their folders are, the held-out ones."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from genjax.data.splits import digest
from genjax.errors import UserError


def listed(root: Path, suffixes: Collection[str], things: str) -> list[str]:
    """The paths below ``root`` of its files with one of the suffixes, sorted, with "/" on every system; no hidden ones.

    Args:
      things: what the files are, for the message.

    Raises:
      UserError: no folder, or none of such files.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder" if root.exists() else f"there is no folder {root}")
    found = (
        path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in suffixes and not path.is_dir()
    )
    names = sorted(p.as_posix() for p in found if not any(part.startswith(".") for part in p.parts))
    if not names:
        raise UserError(f"{root} holds no {things} ({', '.join(sorted(suffixes))})")
    return names


def folder_labels(names: Sequence[str]) -> tuple[np.ndarray | None, int | None]:
    """(labels [N] int32, classes) where the folders directly under the root are classes, else Nones."""
    tops = [name.split("/")[0] if "/" in name else None for name in names]
    if None in tops or len(set(tops)) < 2:
        return None, None
    return numbered([top for top in tops if top is not None])


def numbered(words: Sequence[str]) -> tuple[np.ndarray, int]:
    """(labels [N] int32, classes): the words' places in alphabetical order."""
    number = {word: i for i, word in enumerate(sorted(set(words)))}
    return np.array([number[word] for word in words], np.int32), len(number)


def split_rows(root: str, names: Sequence[str], fraction: float, things: str) -> dict[str, np.ndarray]:
    """Rows [M] of "train" and, unless ``fraction`` is 0, of "test".

    The choice hangs on each file's path below the root, so adding files moves no other.

    Raises:
      UserError: a single file cannot be both.
    """
    place = np.array([_place(name) for name in names])  # [N] in [0, 1)
    if fraction == 0:
        return {"train": np.arange(len(names))}
    if len(names) < 2:
        raise UserError(f"{root} holds one usable {things}; test_fraction=0 trains on it alone")
    test = place < fraction
    test[place.argmin()] = True  # of a few, too, there is one to test on
    if test.all():
        test[place.argmax()] = False
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}


def _place(name: str) -> float:
    """Where a file falls in [0, 1), by its path alone; accents spelt alike on every file system."""
    return int(digest([unicodedata.normalize("NFC", name).encode()])[:13], 16) / 16**13
