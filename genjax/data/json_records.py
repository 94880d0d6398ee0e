"""Records of JSON files, each with the place where a person finds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genjax.data.texts import decoded, lines
from genjax.errors import UserError

LINES = (".jsonl", ".ndjson")


def json_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each record stands, and the record: of a JSON list (".json") or one a line, plain or (".gz") compressed.

    Raises:
      UserError: the file is missing, of another kind or no JSON; the line is named.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind in LINES:
        for number, line in enumerate(lines(path), 1):
            if line.strip():
                yield f"line {number:,} of {path.name}", _parsed(line.strip(), path.name, number)
        return
    if kind != ".json":
        raise UserError(f"{path.name} is no file of records; known are .json, {', '.join(LINES)}, all also with .gz")
    records = _parsed("".join(decoded(path)), path.name)
    if not isinstance(records, list):
        raise UserError(f"{path.name} holds no list of records; those of JSONL stand in a line each")
    for number, record in enumerate(records, 1):
        yield f"record {number:,} of {path.name}", record


def _parsed(text: str, name: str, line: int = 1) -> Any:
    """What a text says that begins in this line of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"line {line + error.lineno - 1:,} of {name} is no JSON: {error.msg}") from None
