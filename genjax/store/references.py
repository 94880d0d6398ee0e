"""Check references between records: that they exist, and that no record is made from itself."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.access.views import WHOLE
from genjax.store.records import KINDS, REFERS, UNKNOWN, Record, own_fields, references
from genjax.store.rows import name_kind, split


class Edge(NamedTuple):
    """A reference: a record, the field, and the record it refers to."""

    child: str
    role: str
    parent: str


def refer_columns() -> Iterator[tuple[str, sa.Column[str]]]:
    """Yield the columns that name other records: the field, and the column."""
    yield "generator", schema.records.c.generator
    for kind in KINDS:
        for f in own_fields(kind):
            if REFERS in f.metadata:
                yield f.name, schema.KINDS[kind].c[f.name]


def find_edges(
    connection: sa.Connection, ids: Iterable[str], up: bool = True, whole: bool = False
) -> list[Edge]:
    """Return the references of records, or with ``up`` False those to them, in a stable order.

    With ``whole`` they include those of records that are hidden from a principal.
    """
    found: list[Edge] = []
    options = {WHOLE: whole}
    for part in split(sorted(set(ids))):
        links = schema.links
        known = links.c.child if up else links.c.parent
        query = sa.select(links.c.child, links.c.parent).where(known.in_(part))
        found += [
            Edge(child, "parents", parent)
            for child, parent in connection.execute(
                query.order_by(*links.primary_key), execution_options=options
            )
        ]
        for role, column in refer_columns():
            own = column.table.c.id
            query = sa.select(own, column).where((own if up else column).in_(part))
            query = query.where(column.is_not(None)).order_by(own)
            rows = connection.execute(query, execution_options=options)
            found += [Edge(child, role, parent) for child, parent in rows]
    return [edge for edge in found if edge.parent != UNKNOWN]


def check_references(connection: sa.Connection, records: Sequence[Record]) -> None:
    """Refuse new records that refer to missing ones, or in a circle to each other.

    Raises:
      UserError: a reference is wrong; the message names the field.
    """
    new = {record.id: name_kind(record) for record in records}
    if len(new) < len(records):
        raise UserError("id must be another for each record", "id")
    _check_there(connection, records, new)
    graph = {
        record.id: {other for _, other, _ in references(record) if other in new}
        for record in records
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        named = (ref for record in records if record.id in circle for ref in references(record))
        field = next(name for name, other, _ in named if other in circle)
        raise UserError(f"{field} must not close a circle: {' -> '.join(circle)}", field) from None


def check_change(connection: sa.Connection, record: Record, before: Record) -> None:
    """Refuse a change after which a record refers to a missing one, or is made from itself.

    Raises:
      UserError: a reference is wrong; the message names the field.
    """
    _check_there(connection, [record], {})
    known = {other for _, other, _ in references(before)}
    wanted = {other: field for field, other, _ in references(record) if other not in known}
    if record.id in wanted:
        raise UserError(f"{wanted[record.id]} must not be the record itself", wanted[record.id])
    for other, field in wanted.items():
        if record.id in find_above(connection, [other]):
            raise UserError(f"{field} must not close a circle: {other} is made from it", field)


def find_above(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Return all records that the given ones are made from, directly or indirectly."""
    seen: set[str] = set()
    level = set(ids)
    while level:
        level = {edge.parent for edge in find_edges(connection, level, whole=True)} - seen
        seen |= level
    return seen


def _check_there(
    connection: sa.Connection, records: Sequence[Record], new: Mapping[str, str]
) -> None:
    wanted = [(r, *ref) for r in records for ref in references(r)]
    missing = sorted({other for _, _, other, _ in wanted} - new.keys())
    known: dict[str, str] = dict(new)
    deleted = set()
    table = schema.records
    for part in split(missing):
        query = sa.select(table.c.id, table.c.kind, table.c.deleted).where(table.c.id.in_(part))
        for one, kind, gone in connection.execute(query):
            known[one] = kind
            if gone is not None:
                deleted.add(one)
    for record, field, other, kinds in wanted:
        what = " or ".join(kinds) or "record"
        where = f"{name_kind(record)} {record.id}"
        if other not in known:
            raise UserError(
                f"{field} must be the id of a {what}, {other!r:.80} does not exist ({where})", field
            )
        if kinds and known[other] not in kinds:
            raise UserError(
                f"{field} must be the id of a {what}, {other} is a {known[other]} ({where})", field
            )
        if other in deleted and other in missing:
            raise UserError(f"{field} must not be deleted, {other} is ({where})", field)
