"""Convert records of every kind to complete JSON objects and back."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from genjax.errors import UserError, unknown_name
from genjax.serial.json_text import Json
from genjax.store.records import KINDS, Payload, Record
from genjax.store.rows import name_kind

OPTIONAL = ("sampler", "manifest")  # an empty object differs from none


def write_plain(record: Record, content: bytes | None = None) -> dict[str, Json]:
    """Return a record as JSON, with the bytes of its payload in base64.

    Args:
      content: of its blob.
    """
    found: dict[str, Json] = {"kind": name_kind(record)}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Payload):
            value = {
                f.name: getattr(value, f.name)
                for f in dataclasses.fields(value)
                if getattr(value, f.name) is not None and f.name != "content"
            }
            if content is not None:
                value["content"] = base64.b64encode(content).decode()
        elif isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        if value not in (None, field.default, [], {}) or (value == {} and field.name in OPTIONAL):
            found[field.name] = value
    return found


def read_plain(row: Mapping[str, Json], where: str) -> Record:
    """Read the record of such an object; the store checks types.

    Raises:
      UserError: a member is unknown or missing.
    """
    kind = KINDS.get(str(row["kind"]))
    if kind is None:
        raise UserError(f"{unknown_name('kind', str(row['kind']), KINDS)} ({where})", "kind")
    names = {field.name for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name == "kind":
            continue
        if name not in names:
            raise UserError(f"{unknown_name('field', name, names)} ({where})", name)
        values[name] = _read_value(name, value, where)
    return kind(**values)


def _read_value(name: str, value: Json, where: str) -> Any:
    if name in ("parents", "tags"):
        if not isinstance(value, list):
            raise UserError(f"{name} must be a list ({where})", name)
        return tuple(value)
    if name == "time" and value is not None:
        try:
            time = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise UserError(f"time must be one of ISO 8601 ({where})", name) from None
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return _read_payload(value, where) if name == "payload" else value


def _read_payload(value: Json, where: str) -> Payload:
    names = {field.name for field in dataclasses.fields(Payload)}
    if not isinstance(value, Mapping) or not value.keys() <= names:
        known = ", ".join(sorted(names))
        raise UserError(f"payload must be an object with {known} ({where})", "payload")
    content = value.get("content")
    if content is None:
        return Payload(**value)
    try:
        decoded = base64.b64decode(content, validate=True)
    except (TypeError, ValueError):
        raise UserError(f"payload.content must be base64 ({where})", "payload.content") from None
    return Payload(**{**value, "content": decoded})
