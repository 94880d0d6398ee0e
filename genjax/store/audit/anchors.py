"""Anchor the newest link of the audit trail in a file that is kept elsewhere.

Whoever may write the store can write a whole new trail, which fits itself. It does not fit a file
that they cannot write. Each line of the file holds the hash of the line before it, and the trail
records each line, so that the file cannot be cut short either.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.machine import disk
from genjax.store import schema
from genjax.store.audit.chain import Head, note, read_head
from genjax.store.audit.forms import ENCODER, hash_text
from genjax.store.audit.verifying import Flaw
from genjax.store.rows import now, to_time
from genjax.store.store import Store

ANCHOR = "anchor"  # the action of links that record a line
FIELDS = {
    "file": str,
    "line": int,
    "link": int,
    "hash": str,
    "count": int,
    "time": str,
    "before": str,
    "sum": str,
}


def anchor(store: Store, path: str | Path) -> Head:
    """Append the newest link to a file, and return it.

    Args:
      store: the store.
      path: a file; a new one is made.

    Raises:
      UserError: the file cannot be written, or is damaged.
    """
    place = Path(path).expanduser()
    with store.writing() as connection:
        lines = _read(place) if place.exists() else []
        head = read_head(connection)
        records = connection.execute(sa.select(sa.func.count()).select_from(schema.records))
        line = {
            "file": lines[-1]["file"] if lines else secrets.token_hex(8),
            "line": len(lines) + 1,
            "link": head.link,
            "hash": head.hash,
            "count": records.scalar_one(),
            "time": to_time(now()).isoformat(),
            "before": lines[-1]["sum"] if lines else "",
        }
        line["sum"] = hash_text(ENCODER.encode(line))
        try:
            with disk.explain_full_disk("nothing was anchored", place):
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("ab") as file:
                    file.write(json.dumps(line).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"to {place} cannot be written: {error.strerror}", "to") from None
        note(connection, ANCHOR, store.user, {"file": line["file"], "line": line["line"]})
    return head


def check_anchors(store: Store, path: str | Path) -> list[Flaw]:
    """Compare the trail with a file of anchors, and the file with itself.

    Raises:
      UserError: the file was edited, or holds none.
    """
    with store.reading() as connection:
        return compare_anchors(connection, path)


def compare_anchors(connection: sa.Connection, path: str | Path) -> list[Flaw]:
    """See ``check_anchors``."""
    place = Path(path).expanduser()
    lines = _read(place)
    if not lines:
        raise UserError(f"anchor {place} holds no anchors: the file is empty", "anchor")
    table = schema.audit
    flaws = []
    last = read_head(connection).link
    for line in lines:
        query = sa.select(table.c.hash).where(table.c.link == line["link"])
        found = connection.execute(query).scalar() or ""
        if line["link"] > last:
            what = f"link {line['link']} was anchored on {line['time']}, but there is none now"
            flaws.append(Flaw(last + 1, what))
        elif found != line["hash"]:
            what = f"link {line['link']} is not what was anchored on {line['time']}"
            flaws.append(Flaw(line["link"], what))
    written = max(_list_lines(connection, lines[0]["file"]), default=0)
    if written > len(lines):
        raise UserError(
            f"anchor {place} was edited: it has {len(lines)} lines, {written} were written",
            "anchor",
        )
    return flaws


def _list_lines(connection: sa.Connection, file: str) -> Iterator[int]:
    """Yield the numbers of the lines of a file that the trail records."""
    table = schema.audit
    query = sa.select(table.c.details).where(table.c.action == ANCHOR)
    for (details,) in connection.execute(query):
        if isinstance(details, dict) and details.get("file") == file:
            yield details["line"]


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of anchors.

    Raises:
      UserError: it cannot be read, or was edited.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"anchor {path} cannot be read: {error.strerror}", "anchor") from None
    found: list[dict[str, Any]] = []
    for number, text in enumerate(content.splitlines(), 1):
        before = found[-1]["sum"] if found else ""
        try:
            line = json.loads(text)
            typed = line.keys() == FIELDS.keys() and all(
                type(line[name]) is kind for name, kind in FIELDS.items()
            )
            words = {name: one for name, one in line.items() if name != "sum"}
            same = typed and line["sum"] == hash_text(ENCODER.encode(words))
        except (ValueError, AttributeError, RecursionError):
            same = False
        if not same or (line["line"], line["before"]) != (number, before):
            raise UserError(f"anchor {path} was edited: line {number} does not fit", "anchor")
        found.append(line)
    return found
