"""Which indexes follow a store, and which changes none of them needs any more."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from genjax.errors import unknown_name
from genjax.store import schema
from genjax.store.store import Store

INDEX, REMOVED = "index ", "outbox removed"  # names of settings


def name_index(url: str) -> str:
    """Return an index as the store remembers it: its URL without a password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True) if "://" in url else url
    except (exc.ArgumentError, ValueError):
        return url


def read_removed(store: Store) -> int:
    """Return the number of the last change that was removed from the outbox, 0 where none was."""
    with store.reading() as connection:
        return _read_removed(connection)


def list_followers(store: Store) -> dict[str, int]:
    """Return the indexes that follow a store, and the last change that each holds."""
    with store.reading() as connection:
        return _list_followers(connection)


def trim(store: Store, name: str | None, seq: int, forget: Sequence[str] = ()) -> int:
    """Note how far an index is, and remove changes that every index holds; returns how many.

    The newest change stays, so that its number is known.

    Args:
      name: of the index; None notes and removes nothing.
      seq: the last change that it holds.
      forget: names of indexes for which nothing is kept any more.

    Raises:
      UserError: one to forget is not known.
    """
    if name is None:
        return 0
    table, outbox = schema.settings, schema.outbox
    with store.writing() as connection:
        known = _list_followers(connection)
        for one in map(name_index, forget):
            if one not in known:
                raise unknown_name("index to forget", one, known)
            connection.execute(table.delete().where(table.c.name == INDEX + one))
            del known[one]
        known[name_index(name)] = seq
        _keep(connection, INDEX + name_index(name), seq)
        newest = connection.execute(sa.select(sa.func.max(outbox.c.seq))).scalar() or 0
        last = min(*known.values(), newest - 1)
        if last <= _read_removed(connection):
            return 0
        removed = connection.execute(outbox.delete().where(outbox.c.seq <= last)).rowcount
        _keep(connection, REMOVED, last)
    return int(removed)


def _list_followers(connection: sa.Connection) -> dict[str, int]:
    table = schema.settings
    query = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(INDEX))
    return {name.removeprefix(INDEX): int(value) for name, value in connection.execute(query)}


def _read_removed(connection: sa.Connection) -> int:
    table = schema.settings
    query = sa.select(table.c.value).where(table.c.name == REMOVED)
    return int(connection.execute(query).scalar() or 0)


def _keep(connection: sa.Connection, name: str, value: int) -> None:
    table = schema.settings
    changed = connection.execute(
        table.update().where(table.c.name == name).values(value=str(value))
    )
    if not changed.rowcount:
        connection.execute(table.insert().values(name=name, value=str(value)))
