"""Records of JSON files, each with the place where a person finds it."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from genjax.data.compressed import open_gzip
from genjax.data.tally import HALVES
from genjax.data.text.documents import decode_file, split_lines
from genjax.errors import UserError
from genjax.serial.json_text import BLANKS, Value, parse, replace_halves, values

KINDS = 100  # of things that are counted by their names
SUFFIXES = (".json", ".jsonl", ".ndjson")


def json_records(
    path: Path, encoding: str = "utf-8", left: Counter[str] | None = None
) -> Iterator[tuple[str, Any]]:
    """Where each record stands, and the record; plain or (".gz") compressed.

    Files in UTF-16 and UTF-32 are known by their first bytes; all others are of ``encoding``. What
    the file holds counts, not its name: a list of records, a record a line, or records one after
    the other. Half of a surrogate pair, which is not a character, becomes U+FFFD.

    Args:
      encoding: of the file.
      left: counts what was changed.

    Raises:
      UserError: the file is missing, of another kind or no JSON; the line is named.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}", str(path))
    kind = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    if kind.lower() not in SUFFIXES:
        raise UserError(
            f"{path.name} is not a file of records; known are {', '.join(SUFFIXES)}, all also with "
            ".gz",
            str(path),
        )
    left = Counter() if left is None else left
    texts = decode_file(path, detect_encoding(path, encoding), left)
    for where, record in parse_records(texts, path.name):
        mended, count = replace_halves(record)
        if count:
            left[HALVES] += count
        yield where, mended


def detect_encoding(path: Path, default: str = "utf-8") -> str:
    """The encoding of a file of JSON by its first bytes; ``default`` where they are those of
    UTF-8.
    """
    try:
        with open_gzip(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            found = json.detect_encoding(file.read(4))
    except (OSError, EOFError):  # reported where the file is read
        return default
    return default if found.startswith("utf-8") else found


def parse_records(texts: Iterable[str], name: str) -> Iterator[tuple[str, Any]]:
    """The records of a file whose text comes in parts, as of ``json_records``, halves of pairs
    left as they are.
    """
    lines = enumerate(split_lines(texts), 1)
    number, first = next(((n, line) for n, line in lines if line.strip(BLANKS)), (0, ""))
    if not first:
        return
    rest = (line for _, line in lines)
    if first.lstrip(BLANKS)[0] == "[":
        yield from _list("\n" * (number - 1) + first + "".join(rest), name)
        return
    try:
        found = list(values(first, name, line=number))
    except UserError:  # a record that takes several lines, or no JSON
        whole = "\n" * (number - 1) + first + "".join(rest)
        for value in values(whole, name):
            yield _name_line(value, whole.count("\n", 0, value.begins) + 1, name)
        return
    for value in found:
        yield _name_line(value, number, name)
    for place, line in lines:
        for value in values(line, name, line=place):
            yield _name_line(value, place, name)


def _name_line(value: Value, line: int, name: str) -> tuple[str, Any]:
    return f"line {line:,} of {name}", value.value


def _list(text: str, name: str) -> Iterator[tuple[str, Any]]:
    records = parse(text, name)
    for number, record in enumerate(records, 1):
        yield f"record {number:,} of {name}", record


def get_text(
    record: Any, field: str, where: str, needed: bool = False, left: Counter[str] | None = None
) -> str:
    """The text of a field; "" where it is missing or null, which is refused if the field is
    ``needed``.

    Args:
      left: counts fields that are null.
    """
    value = record.get(field)
    if value is None and needed:
        there = ", ".join(map(str, itertools.islice(record, 8))) or "none"
        raise UserError(f"{where} has no {field!r}; its fields are {there}", field)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where} holds {type(value).__name__} in {field!r}, not text", field)
    if value is None and field in record and left is not None:
        left[f"fields {field!r} that are null read as empty"] += 1
    return value or ""


def pass_over(values: dict[str, Any], known: Collection[str], of: str, left: Counter[str]) -> None:
    """Count the fields that hold something and are not read."""
    for name, value in values.items():
        if name not in known and value not in (None, [], "", {}):
            what = f"fields {name[:40]!r} of {of} skipped"
            left[
                what if what in left or len(left) < KINDS else f"other fields of {of} skipped"
            ] += 1
