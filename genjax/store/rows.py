"""Convert records to rows of tables and back."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time as clock
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.privacy.guard import Unreadable
from genjax.store.records import KINDS, NAMES, Payload, Record, own_fields

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CHUNK = 500  # ids in a statement
Row = dict[str, Any]


class Change(NamedTuple):
    """A change of a record; ``fields`` has the old and new value of each field."""

    record: str
    user: str
    time: datetime
    action: str
    fields: Mapping[str, Any]


class Pending(NamedTuple):
    """A change that the index has to follow: "upsert" or "delete" of a record."""

    seq: int
    record: str
    action: str


def to_number(time: datetime) -> int:
    """Return a time as whole microseconds since 1970 in UTC."""
    return (time - EPOCH) // MICROSECOND


def to_time(number: int) -> datetime:
    """Whole microseconds since 1970 as a time in UTC."""
    return EPOCH + number * MICROSECOND


def now() -> int:
    """Return the time in microseconds."""
    return clock.time_ns() // 1000


def make_ids(count: int) -> list[str]:
    """New ids, in order: UUIDs of version 7, which begin with the time."""
    milliseconds = clock.time_ns() // 1_000_000
    free = secrets.randbits(72)  # of 74 bits, so that counting up does not overflow
    steps = os.urandom(4 * count)
    found = []
    for number in range(count):
        free += 1 + int.from_bytes(steps[4 * number : 4 * number + 4])
        low = free & (2**62 - 1) | 2 << 62
        text = f"{milliseconds:012x}7{free >> 62:03x}{low:016x}"
        found.append(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
    return found


def name_kind(record: Record) -> str:
    """Return the name of a record's kind in tables."""
    return NAMES[type(record)]


def to_rows(record: Record) -> tuple[Row, Row, list[Row]]:
    """Return a record's row of ``records``, its row of the kind's table, and its links."""
    kind = name_kind(record)
    assert record.time is not None
    shared: Row = {
        "id": record.id,
        "kind": kind,
        "origin": record.origin,
        "generator": record.generator,
        "time": to_number(record.time),
        "tags": list(record.tags) or None,
        "metadata": dict(record.metadata) or None,
        **dict.fromkeys(schema.PAYLOAD),
    }
    own: Row = {"id": record.id}
    for f in own_fields(kind):
        value = getattr(record, f.name)
        if isinstance(value, Payload):
            shared |= {name: getattr(value, name) for name in schema.PAYLOAD}
        else:
            own[f.name] = dict(value) if isinstance(value, Mapping) else value
    parents = enumerate(record.parents)
    return shared, own, [{"child": record.id, "position": i, "parent": p} for i, p in parents]


def from_row(row: Mapping[str, Any] | sa.RowMapping, parents: Sequence[str]) -> Record:
    """Return the record of a row of ``records`` joined with that of its kind."""
    kind = row["kind"]
    values: Row = {
        "id": row["id"],
        "origin": row["origin"],
        "generator": row["generator"],
        "parents": tuple(parents),
        "time": to_time(row["time"]),
        "tags": tuple(row["tags"] or ()),
        "metadata": row["metadata"] or {},
    }
    for f in own_fields(kind):
        if f.name == "payload":
            values["payload"] = Payload(**{name: row[name] for name in schema.PAYLOAD})
        else:
            values[f.name] = row[f"own_{f.name}"]
    return KINDS[kind](**values)


def columns_of(kind: str) -> list[sa.ColumnElement[Any]]:
    """Return the columns that ``from_row`` reads."""
    table = schema.KINDS[kind]
    own = [column.label(f"own_{column.name}") for column in table.c if column.name != "id"]
    return [*(column for column in schema.records.c), *own]


def load(connection: sa.Connection, ids: Iterable[str]) -> list[Record]:
    """Return the existing records among these ids, in their order."""
    wanted = list(ids)
    kinds: dict[str, list[str]] = {}
    for part in split(wanted):
        found = sa.select(schema.records.c.id, schema.records.c.kind)
        for one, kind in connection.execute(found.where(schema.records.c.id.in_(part))):
            kinds.setdefault(kind, []).append(one)
    parents = _load_parents(connection, wanted)
    records: dict[str, Record] = {}
    for kind, some in kinds.items():
        for part in split(some):
            for row in _read_rows(connection, kind, part):
                records[row["id"]] = from_row(row, parents.get(row["id"], ()))
    return [records[one] for one in wanted if one in records]


def _read_rows(connection: sa.Connection, kind: str, ids: Sequence[str]) -> Sequence[sa.RowMapping]:
    """Read the rows of a kind.

    Raises:
      Unreadable: an encrypted value cannot be read; the message names the record.
    """
    table = schema.KINDS[kind]
    joined = schema.records.join(table, table.c.id == schema.records.c.id)
    query = sa.select(*columns_of(kind)).select_from(joined)
    try:
        return connection.execute(query.where(schema.records.c.id.in_(ids))).mappings().all()
    except Unreadable as error:
        if len(ids) == 1:
            raise Unreadable(f"{error} ({kind} {ids[0]})", error.field) from None
        for one in ids:
            _read_rows(connection, kind, [one])
        raise


def _load_parents(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    links = schema.links
    for part in split(ids):
        query = sa.select(links.c.child, links.c.parent).where(links.c.child.in_(part))
        for child, parent in connection.execute(query.order_by(links.c.child, links.c.position)):
            found.setdefault(child, []).append(parent)
    return found


def split(values: Sequence[str], size: int = CHUNK) -> Iterable[Sequence[str]]:
    """Parts of at most ``size``."""
    return (values[first : first + size] for first in range(0, len(values), size))


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows, if there are any."""
    if rows:
        connection.execute(table.insert(), list(rows))


def fill(record: Record, one: str, time: int) -> Record:
    """Complete a record with an id, and a time in UTC to the microsecond."""
    given = to_time(time if record.time is None else to_number(record.time))
    return dataclasses.replace(record, id=record.id or one, time=given)
