"""Read records from JSON files, each with the place where a person finds it."""

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

KINDS = 100  # distinct names that are counted separately
SUFFIXES = (".json", ".jsonl", ".ndjson")


def json_records(
    path: Path, encoding: str = "utf-8", left: Counter[str] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield each record of a plain or compressed (".gz") JSON file, preceded by its place.

    UTF-16 and UTF-32 are detected by the first bytes; other files use ``encoding``. The content
    decides the form, not the file name: a list of records, a record per line, or records one after
    another. Half of a surrogate pair becomes U+FFFD.

    Args:
      path: path of the file.
      encoding: encoding of the file.
      left: counts of what was changed.

    Raises:
      UserError: the file is missing, has another suffix, or is not JSON; the message names the
        line.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}", str(path))
    kind = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    if kind.lower() not in SUFFIXES:
        raise UserError(
            f"{path.name} must end in {', '.join(SUFFIXES)}, all also with .gz",
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
    """Return the encoding of a JSON file, detected by its first bytes, or ``default``."""
    try:
        with open_gzip(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            found = json.detect_encoding(file.read(4))
    except (OSError, EOFError):  # reported when the file is read
        return default
    return default if found.startswith("utf-8") else found


def parse_records(texts: Iterable[str], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the records of a text that comes in parts, like ``json_records``, but with surrogate
    halves unchanged.
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
    except UserError:  # a record of several lines, or not JSON
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
    """Return the text of a field; "" if it is missing or null, unless the field is ``needed``.

    Args:
      record: record to read.
      field: name of the field.
      where: place of the record, for messages.
      needed: whether a missing field is refused.
      left: counts of fields that are null.
    """
    value = record.get(field)
    if value is None and needed:
        there = ", ".join(map(str, itertools.islice(record, 8))) or "none"
        raise UserError(f"{where} has no {field!r}; its fields are {there}", field)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{field!r} of {where} must be a text, got {type(value).__name__}", field)
    if value is None and field in record and left is not None:
        left[f"fields {field!r} that are null read as empty"] += 1
    return value or ""


def pass_over(values: dict[str, Any], known: Collection[str], of: str, left: Counter[str]) -> None:
    """Count the fields with a value that are not read."""
    for name, value in values.items():
        if name not in known and value not in (None, [], "", {}):
            what = f"fields {name[:40]!r} of {of} skipped"
            left[
                what if what in left or len(left) < KINDS else f"other fields of {of} skipped"
            ] += 1
