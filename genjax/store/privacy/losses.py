"""Open the guard of a store, and say what is lost without its key."""

from __future__ import annotations

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.privacy.columns import Sealed
from genjax.store.privacy.guard import Guard
from genjax.store.privacy.keys import VARIABLE, Key, read_keys
from genjax.store.privacy.plan import BLOBS, CHANGES, DIGEST, Plan, read_plan


def open_guard(connection: sa.Connection, place: str) -> Guard:
    """Return the guard of a store, before anything of it is decrypted.

    Raises:
      UserError: a key is missing or wrong; the message says what cannot be read without it.
    """
    plan = read_plan(connection)
    if not plan.key:
        return Guard(plan)
    needed = (plan.key, *plan.older)
    keys: tuple[Key, ...] = ()
    try:
        keys = read_keys()
        known = {key.id for key in keys}
        missing = [name for name in needed if name not in known]
        why = f"{VARIABLE} has {', '.join(sorted(known))}"
    except UserError as error:
        missing, why = list(needed), str(error).removeprefix("key ")
    if missing:
        lost = describe_loss(connection, plan)
        raise UserError(
            f"key {', '.join(missing)} of store {place} is missing: {why}; {lost}", "key"
        )
    return Guard(plan, keys)


def describe_loss(connection: sa.Connection, plan: Plan) -> str:
    """Return what a store without its keys does not give back: fields and numbers of records."""
    counts: dict[str, int] = {}
    for table in (schema.records, *schema.KINDS.values()):
        for column in table.c:
            name = column.type.column if isinstance(column.type, Sealed) else ""
            if name in plan.columns and name not in (CHANGES, DIGEST):
                counts[name] = counts.get(name, 0) + _count(connection, column)
    fields = [f"{name} of {count:,}" for name, count in counts.items() if count]
    blobs = _count(connection, schema.records.c.blob) if BLOBS in plan.encrypted else 0
    lost = f"{', '.join(fields)} records" if fields else "no field of any record"
    lost += f", {blobs:,} blobs" if blobs else ""
    return f"without it {lost} cannot be read"


def _count(connection: sa.Connection, column: sa.Column[str]) -> int:
    query = sa.select(sa.func.count()).select_from(column.table).where(column.is_not(None))
    return int(connection.execute(query).scalar_one())
