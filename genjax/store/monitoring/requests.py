"""Keep which requests a server got: when, by whom, how fast and with which result, never a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.monitoring.measured import Measured
from genjax.store.rows import insert, split, to_number

LARGEST = 1e300  # beyond it a number is not one


def add_requests(connection: sa.Connection, found: Sequence[Measured]) -> int:
    """Add the requests that are not there yet, within a transaction; return their number."""
    table = schema.requests
    unique = {one.id: one for one in found}
    for part in split(list(unique)):
        known = sa.select(table.c.id).where(table.c.id.in_(part))
        for one in connection.execute(known).scalars().all():
            del unique[one]
    rows = [
        asdict(one)
        | {
            "time": to_number(one.time),
            "milliseconds": _keep_finite(one.milliseconds),
            "first_ms": _keep_finite(one.first_ms),
        }
        for one in unique.values()
    ]
    insert(connection, table, rows)
    return len(rows)


def _keep_finite(number: float | None) -> float | None:
    return number if number is not None and 0 <= number < LARGEST else None


def forget_records(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Remove the ids of erased records from requests, which stay as numbers."""
    table = schema.requests
    for part in split(ids):
        connection.execute(table.update().where(table.c.record.in_(part)).values(record=None))


def forget_user(connection: sa.Connection, user: str) -> int:
    """Remove a user's name from requests, which stay as numbers; return how many had it."""
    table = schema.requests
    changed = connection.execute(table.update().where(table.c.user == user).values(user=None))
    return int(changed.rowcount)
