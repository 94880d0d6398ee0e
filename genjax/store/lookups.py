"""Look up which ids and blobs exist."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.access.views import WHOLE
from genjax.store.filters import All
from genjax.store.privacy.columns import is_sealed
from genjax.store.query import Query, follow, sort
from genjax.store.rows import split


def find_known(connection: sa.Connection, ids: Sequence[str], whole: bool = True) -> set[str]:
    """Return which ids exist already, including those of deleted records.

    With ``whole`` they include those of records that are hidden from a principal.
    """
    table, found = schema.records, set()
    for part in split(ids):
        query = sa.select(table.c.id).where(table.c.id.in_(part))
        query = query.execution_options(**{WHOLE: whole})
        found |= {one for (one,) in connection.execute(query)}
    return found


def find_visible(connection: sa.Connection, ids: Sequence[str]) -> list[str]:
    """Return the ids whose records exist and are not deleted."""
    table = schema.records
    found: list[str] = []
    for part in split(ids):
        query = sa.select(table.c.id).where(table.c.id.in_(part), table.c.deleted.is_(None))
        found += connection.execute(query).scalars()
    return found


def find_past_blobs(connection: sa.Connection) -> set[str]:
    """Return the blobs that records had before a change."""
    past = schema.history.c.changes
    query = sa.select(past).where(past.is_not(None))
    if not is_sealed(connection, past):
        query = query.where(sa.cast(past, sa.Text).contains('"blob"'))
    query = query.execution_options(**{WHOLE: True})
    found = [changes.get("blob") or () for (changes,) in connection.execute(query)]
    return {blob for changed in found for blob in changed if blob is not None}


def find_used(connection: sa.Connection, blobs: set[str]) -> set[str]:
    """Return which blobs records have or had, including deleted records."""
    table, found = schema.records, find_past_blobs(connection) & blobs
    for part in split(sorted(blobs)):
        query = sa.select(table.c.blob).where(table.c.blob.in_(part)).distinct()
        query = query.execution_options(**{WHOLE: True})
        found |= {one for (one,) in connection.execute(query)}
    return found


def find_ids(
    connection: sa.Connection, query: Query, limit: int | None, after: str | None = None
) -> list[str]:
    """Return the ids that a query finds, in its order, after a given record.

    Raises:
      UserError: there is no such record.
    """
    postgres = connection.dialect.name == "postgresql"
    own = schema.records.c.id
    statement, column, down = query.compile(own, postgres=postgres)
    if after is not None:
        source = dataclasses.replace(query, filter=All(()), origin="any")
        where, last, _ = source.compile(postgres=postgres)
        row = connection.execute(where.add_columns(last).where(own == after)).first()
        if row is None:
            raise UserError(f"after must be the id of a record, got {after!r:.80}", "after")
        statement = statement.where(follow(column, down, row[0], after))
    return list(connection.execute(sort(statement, column, down).limit(limit)).scalars())


def refuse_known(known: set[str]) -> None:
    """Refuse ids that exist already.

    Raises:
      UserError: there is one.
    """
    if known:
        raise UserError(f"id must be new, {min(known)!r:.80} is known", "id")
