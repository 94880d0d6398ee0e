"""Replace the key of a store while others read and write.

First the settings name the new key: whoever writes begins by reading them, so that from then on
nothing is written with the old one. Then values and blobs are encrypted again, a batch in each
transaction. Every value says which key it needs, so a rotation that was killed finds the rest by
looking, and the end is checked by looking, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store.audit import chain
from genjax.store.privacy.changing import clean_file
from genjax.store.privacy.chunks import HEADER, read_key_id
from genjax.store.privacy.damage import find_key, list_sealed, read_key_ids
from genjax.store.privacy.guard import Unreadable, turn_plan
from genjax.store.privacy.keys import VARIABLE, read_keys
from genjax.store.privacy.plan import BLOBS, DIGEST, write_plan
from genjax.store.rows import split
from genjax.store.store import Store

BATCH = 200  # values in a transaction
PAUSE = 0.01  # seconds between transactions, in which others write
Report = Callable[[str], None]


@dataclass(frozen=True)
class Rotated:
    """What a rotation did: the new key, and the numbers of rows and blobs encrypted again."""

    key: str
    rows: int
    blobs: int


def rotate(store: Store, report: Report = print) -> Rotated:
    """Encrypt all of a store with the newest key; a rotation that was killed continues.

    Args:
      store: the store, whose old and new keys are given, the new one first.
      report: takes a line for each thing that cannot be read.

    Raises:
      UserError: the newest key is that of the store already, or something cannot be read; then the
        old key is still needed.
    """
    newest = _begin(store)
    rows = blobs = 0
    bad: list[str] = []
    with store.reading() as connection:
        tables = list_sealed(connection)
    for table, columns in tables:
        left = [column for column in columns if column.name != DIGEST]
        if left:
            rows += _rotate_table(store, table, left, newest, bad)
    if BLOBS in store.guard.plan.encrypted and store.blobs is not None:
        for name in store.blobs.list():
            try:
                with store.writing():
                    blobs += store.blobs.reseal(name, newest)
            except UserError as error:
                bad.append(str(error))
            time.sleep(PAUSE / 10)
    for line in bad:
        report(line)
    if bad:
        cure = "erase what genjax store check names, and rotate again"
        raise UserError(
            f"rotate: {len(bad):,} values or blobs cannot be read, so the old key is "
            f"still needed: {cure}",
            "rotate",
        )
    _end(store, newest)
    return Rotated(newest, rows, blobs)


def _begin(store: Store) -> str:
    keys = read_keys()
    newest = keys[0]
    with store.writing() as connection:
        plan = store.guard.plan
        if not plan.key:
            raise UserError(f"rotate: store {store.place} has no key", "rotate")
        if newest.id != plan.key:
            write_plan(connection, turn_plan(plan, newest))
            store.guard.follow(connection)
            chain.note(connection, "begin rotation", store.user, {"key": newest.id})
        elif not plan.older:
            cure = f"put a new one first into {VARIABLE} (genjax store key FILE does)"
            raise UserError(
                f"rotate: key {newest.id} is that of the store already: {cure}", "rotate"
            )
    return newest.id


def _rotate_table(
    store: Store, table: sa.Table, columns: list[sa.Column[str]], newest: str, bad: list[str]
) -> int:
    key, _ = find_key(table)
    stale = _find_stale(columns, newest)
    query = sa.select(key).where(stale).order_by(key).limit(BATCH)
    count, after = 0, None
    while True:
        with store.writing() as connection:
            found = query if after is None else query.where(key > after)
            keys = list(connection.execute(found).scalars())
            if not keys:
                return count
            count += _seal_again(connection, table, columns, keys, bad)
            after = keys[-1]
        time.sleep(PAUSE)


def _seal_again(
    connection: sa.Connection,
    table: sa.Table,
    columns: list[sa.Column[str]],
    keys: list[Any],
    bad: list[str],
) -> int:
    """Read values and write them, which encrypts them with the newest key."""
    key, own = find_key(table)
    query = sa.select(key.label("key"), *columns).where(key.in_(keys))
    try:
        rows = connection.execute(query).mappings().all()
    except Unreadable as error:
        if len(keys) > 1:
            parts = split(keys, -(-len(keys) // 2))
            return sum(_seal_again(connection, table, columns, [*p], bad) for p in parts)
        about = connection.execute(sa.select(own).where(key == keys[0])).scalar_one()
        bad.append(f"{about}: {error}")
        return 0
    values = {c.name: sa.bindparam(f"new_{c.name}", type_=c.type) for c in columns}
    changes = [
        {"one": row["key"]} | {f"new_{c.name}": row[c.name] for c in columns} for row in rows
    ]
    connection.execute(table.update().where(key == sa.bindparam("one")).values(values), changes)
    return len(rows)


def _find_stale(columns: list[sa.Column[str]], newest: str) -> sa.ColumnElement[bool]:
    """Return the condition for rows with a value of another key."""
    return sa.or_(*(sa.and_(c.is_not(None), read_key_ids(c) != newest) for c in columns))


def _end(store: Store, newest: str) -> None:
    """Check that nothing needs an old key, and forget which these are."""
    with store.writing() as connection:
        for left in _list_left(store, connection, newest):
            raise UserError(f"rotate: {left} still needs an old key: rotate again", "rotate")
        write_plan(connection, replace(store.guard.plan, older=()))
        store.guard.follow(connection)
        chain.note(connection, "end rotation", store.user, {"key": newest})
    clean_file(store)


def _list_left(store: Store, connection: sa.Connection, newest: str) -> Iterator[str]:
    for table, columns in list_sealed(connection):
        left = [column for column in columns if column.name != DIGEST]
        if left:
            stale = sa.select(sa.func.count()).select_from(table).where(_find_stale(left, newest))
            if connection.execute(stale).scalar_one():
                yield table.name
    if BLOBS in store.guard.plan.encrypted and store.blobs is not None:
        for name in store.blobs.list():
            if read_key_id(store.blobs.read_start(name, HEADER)) != newest:
                yield f"blob {name}"
