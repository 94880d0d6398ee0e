"""Read captions and labels from files beside images: ``metadata.jsonl``, or a text per image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from genjax.data.images.files import spelt_alike
from genjax.data.text.documents import decode_file
from genjax.data.text.json_records import get_text, pass_over
from genjax.data.text.record_files import read_records
from genjax.errors import UserError, unknown_name

STEMS = ("metadata", "captions")
KINDS = (".jsonl", ".csv", ".tsv", ".parquet")
READ = (
    *(stem + kind for stem in STEMS for kind in KINDS),
    ".txt",
)  # files that ``read_said`` reads
FILE = ("file_name", "filename", "file", "image", "image_path", "path")
CAPTION = ("text", "caption", "prompt")
LABEL = ("label", "class", "category")
AGAIN = "further captions of an image skipped"


@dataclass(frozen=True)
class Said:
    """Captions and labels of images.

    Attributes:
      captions: caption of each image that has one, by name.
      labels: label of each image that has one, by name.
      others: for files that records name as a mask, condition or the like: the image that they
        belong to, and the field that names them.
      left: counts of what was skipped.
    """

    captions: Mapping[str, str]
    labels: Mapping[str, str]
    others: Mapping[str, tuple[str, str]]
    left: Counter[str] = field(default_factory=Counter)


def read_said(root: Path, names: Sequence[str], column: str | None) -> Said:
    """Read what the files in image folders say about the images.

    Each folder from the root down may have one file of records, called ``metadata`` or
    ``captions``, whose records have a ``file_name`` below that folder, a ``text`` and perhaps a
    ``label``. If no folder has one, a text file with the name of an image is its caption.

    Args:
      root: folder of the images.
      names: paths of the images below the root.
      column: field of the captions; None for ``text``, ``caption`` or ``prompt``.

    Raises:
      UserError: a folder has two such files, or a record names no file or a missing one; the
        message names it.
    """
    inner = {name.rpartition("/")[0] for name in names}
    folders = {str(folder) for name in inner for folder in PurePosixPath(name, "_").parents}
    captions: dict[str, str] = {}
    labels: dict[str, str] = {}
    others: dict[str, tuple[str, str]] = {}
    left: Counter[str] = Counter()
    files = [file for folder in sorted(folders) for file in _record_files(root, folder)]
    known = {spelt_alike(name): name for name in names} if files else {}
    for folder, path in files:
        for where, record in read_records(path, left):
            name, of = _image(record, where, folder, known, root)
            for key, value in record.items():
                other = _inside(value, folder, known) if key != of else None
                if other is not None:
                    others[other] = name, key
            text, field_name = _caption(record, where, column, left)
            label = next((str(record[f]) for f in LABEL if record.get(f) not in (None, "")), None)
            used = {
                of,
                field_name,
                *LABEL,
                *(k for k in record if _inside(record[k], folder, known)),
            }
            pass_over(record, tuple(filter(None, used)), "a record", left)
            if text and name in captions:
                left[AGAIN] += 1
            elif text:
                captions[name] = text
            if label is not None:
                labels[name] = label
    if not files:
        captions = _beside(root, names, left)
    return Said(captions, labels, others, left)


def _record_files(root: Path, folder: str) -> list[tuple[str, Path]]:
    there = [
        path
        for stem in STEMS
        for kind in KINDS
        if (path := root / folder / (stem + kind)).is_file()
    ]
    if len(there) > 1:
        listed = " and ".join(path.name for path in there)
        raise UserError(f"{root / folder} has {listed}: keep one of them", str(root / folder))
    return [(folder, path) for path in there]


def _inside(value: Any, folder: str, known: Mapping[str, str]) -> str | None:
    """Return the image below a folder that a value names; None if it names none."""
    if not isinstance(value, str) or not value or len(value) > 4096:
        return None
    parts = PurePosixPath(folder, value.replace("\\", "/")).parts
    return known.get(spelt_alike(str(PurePosixPath(*parts))))


def _image(
    record: Any, where: str, folder: str, known: Mapping[str, str], root: Path
) -> tuple[str, str]:
    """Return the image that a record describes, and the field that names it."""
    if not isinstance(record, dict):
        raise UserError(f"{where} must be a JSON object", where)
    of = next((name for name in FILE if isinstance(record.get(name), str)), None)
    if of is None:
        there = ", ".join(map(str, record)) or "none"
        raise UserError(f"{where} has no 'file_name'; its fields are {there}", "file_name")
    found = _inside(record[of], folder, known)
    if found is None:
        raise UserError(
            f"{of} of {where} must be the path of an image below {root / folder}, got "
            f"{record[of]!r}: correct it, or remove the record",
            of,
        )
    return found, of


def _caption(
    record: dict[str, Any], where: str, column: str | None, left: Counter[str]
) -> tuple[str, str | None]:
    if column is not None and column not in record:
        raise UserError(f"{where}: {unknown_name('column', column, map(str, record))}", "caption")
    field_name = column or next((f for f in CAPTION if record.get(f) not in (None, "")), None)
    if field_name is None:
        return "", None
    value = record[field_name]
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        left[AGAIN] += len(value) - 1
        return value[0].strip(), field_name
    return get_text(record, field_name, where).strip(), field_name


def _beside(root: Path, names: Sequence[str], left: Counter[str]) -> dict[str, str]:
    """Return the captions in text files that have the name of an image."""
    found = {}
    there = {
        entry.path
        for folder in {n.rpartition("/")[0] for n in names}
        for entry in os.scandir(root / folder)
        if entry.name.endswith(".txt")
    }  # few system calls for many images
    for name in names if there else ():
        path = (root / name).with_suffix(".txt")
        if str(path) in there and path.is_file():
            text = " ".join("".join(decode_file(path, "utf-8", left)).split())
            if text:
                found[name] = text
    return found
