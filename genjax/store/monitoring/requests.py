"""Keep which requests a server got: when, by whom, how fast and with which result, never a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa

from genjax.serial.json_text import Json
from genjax.store import schema
from genjax.store.audit import chain
from genjax.store.monitoring.measured import Measured
from genjax.store.rows import insert, split, to_number
from genjax.store.store import Store

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


def remove_requests(store: Store, before: datetime) -> int:
    """Remove the requests before a time for good; return their number."""
    table = schema.requests
    with store.writing() as connection:
        old = table.c.time < to_number(before)
        count = int(connection.execute(table.delete().where(old)).rowcount)
        if count:
            said: dict[str, Json] = {"before": before.isoformat(), "requests": count}
            chain.note(connection, "remove requests", store.user, said)
    return count
