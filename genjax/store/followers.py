"""Track the indexes that follow a store, and remove changes that all of them have."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import exc

from genjax.errors import unknown_name
from genjax.store import schema
from genjax.store.store import Store

# Names of settings; the first is a prefix.
INDEX, REMOVED = "index ", "outbox removed"


def name_index(url: str) -> str:
    """Return the name under which a store records an index: its URL without the password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True) if "://" in url else url
    except (exc.ArgumentError, ValueError):
        return url


def read_removed(store: Store) -> int:
    """Return the number of the last change removed from the outbox, or 0 if there is none."""
    with store.reading() as connection:
        return find_removed(connection)


def list_followers(store: Store) -> dict[str, int]:
    """Return the number of the last change that each index of a store holds, by index."""
    with store.reading() as connection:
        return _list_followers(connection)


def trim(store: Store, name: str | None, seq: int, forget: Sequence[str] = ()) -> int:
    """Record an index's last change, remove changes that every index holds and count them.

    The newest change is kept so that its number stays known.

    Args:
      name: the name of the index; None records and removes nothing.
      seq: the number of the last change that it holds.
      forget: the names of indexes for which to stop keeping changes.

    Raises:
      UserError: an index to forget is unknown.
    """
    store.access.require_all()
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
        if last <= find_removed(connection):
            return 0
        removed = connection.execute(outbox.delete().where(outbox.c.seq <= last)).rowcount
        _keep(connection, REMOVED, last)
    return int(removed)


def _list_followers(connection: sa.Connection) -> dict[str, int]:
    table = schema.settings
    query = sa.select(table.c.name, table.c.value).where(table.c.name.startswith(INDEX))
    return {name.removeprefix(INDEX): int(value) for name, value in connection.execute(query)}


def find_removed(connection: sa.Connection) -> int:
    """Return the number of the last removed change, within a transaction."""
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
