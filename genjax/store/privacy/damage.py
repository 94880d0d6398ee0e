"""Find encrypted values that cannot be read, and name their records; the others stay readable."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.privacy.columns import Sealed, find_guard, is_sealed
from genjax.store.privacy.guard import Guard, Unreadable

BATCH = 500


def find_unreadable(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """Yield the records with a value that cannot be read, and why."""
    for table, columns in list_sealed(connection):
        key, own = find_key(table)
        stored = sa.or_(*(column.is_not(None) for column in columns))
        query = sa.select(key).where(stored).order_by(key).limit(BATCH)
        keys = list(connection.execute(query).scalars())
        while keys:
            for one in _find_bad(connection, table, columns, key, keys):
                about = connection.execute(sa.select(own).where(key == one[0])).scalar_one()
                yield str(about), one[1]
            after = query.where(key > keys[-1])
            keys = list(connection.execute(after).scalars())


def list_sealed(connection: sa.Connection) -> list[tuple[sa.Table, list[sa.Column[str]]]]:
    """Return the tables with encrypted columns, and these."""
    found = []
    for table in schema.metadata.sorted_tables:
        columns = [column for column in table.c if is_sealed(connection, column)]
        if columns:
            found.append((table, columns))
    return found


def find_key(table: sa.Table) -> tuple[sa.Column[Any], sa.Column[Any]]:
    """Return the primary key of a table, and the column that names its rows in messages."""
    (key,) = table.primary_key
    return key, table.c.record if table is schema.history else key


def _find_bad(
    connection: sa.Connection,
    table: sa.Table,
    columns: list[sa.Column[str]],
    key: sa.Column[str],
    keys: list[str],
) -> Iterator[tuple[str, str]]:
    query = sa.select(*columns).select_from(table)
    try:
        connection.execute(query.where(key.in_(keys))).all()
    except Unreadable as error:
        if len(keys) == 1:
            yield keys[0], str(error)
            return
        half = len(keys) // 2
        for part in (keys[:half], keys[half:]):
            yield from _find_bad(connection, table, columns, key, part)


def read_digests(
    connection: sa.Connection, ids: Sequence[str] | None = None
) -> dict[str, int | None]:
    """Return the hashes of blobs that records have, with their sizes, but no unreadable ones."""
    blob, guard = schema.records.c.blob, find_guard(connection.dialect)
    sealed = is_sealed(connection, blob)
    plain = sa.type_coerce(blob, sa.Text).label("blob")
    query = sa.select(plain, schema.records.c.size).where(blob.is_not(None)).distinct()
    if ids is not None:
        query = query.where(schema.records.c.id.in_(ids))
    found: dict[str, int | None] = {}
    for digest, size in connection.execute(query):
        try:
            found[guard.open_digest(digest) if sealed else digest] = size
        except Unreadable:
            continue
    return found


def sign(guard: Guard, hashes: Mapping[str, str]) -> dict[str, str]:
    """Return hashes of tables as a backup keeps them: keyed, where the store has a secret."""
    if not guard.names:
        return dict(hashes)
    return {
        name: hmac.digest(guard.names, f"{name} {found}".encode(), "sha256").hex()
        for name, found in hashes.items()
    }


def read_key_ids(column: sa.Column[str]) -> sa.ColumnElement[str]:
    """Return the id of the key of each encrypted value; JSON stands in quotes."""
    assert isinstance(column.type, Sealed)
    start = 2 if isinstance(column.type.of, sa.JSON) else 1
    return sa.func.substr(sa.cast(column, sa.Text), start, 8)
