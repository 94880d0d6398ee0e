"""Read and write a store whose records lie on several PostgreSQL servers.

The store's own server, the coordinator, has each table of records as hash partitions that are
foreign tables (``postgres_fdw``), so every query of the store stays as it is. History, outbox and
settings are the coordinator's own tables. A record's rows have one bucket, and so one server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL

from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.store import engine as engines
from genjax.store import schema

SETTING = "shards"  # its value is the schema of the buckets on each server
INCOMPLETE = "incomplete"  # parameter of the URL
BUCKETS = 12  # partitions of a table: servers can be as many
UNDO = "shard_undo"  # the coordinator's table of what an unfinished write has changed
TABLES = (schema.records, *schema.KINDS.values(), schema.links)  # what others refer to first


def name_key(table: sa.Table) -> str:
    """Return the column whose hash decides where a row lies."""
    return "child" if table is schema.links else "id"


@dataclass
class Said:
    """The servers whose absence was said last."""

    away: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shards:
    """The servers that hold parts of a store.

    Attributes:
      incomplete: whether to read what the other servers have while one is away, which is said.
      said: what was said.
    """

    incomplete: bool = False
    said: Said = field(default_factory=Said)

    @contextlib.contextmanager
    def reading(self, engine: sa.Engine, url: URL) -> Iterator[sa.Connection]:
        """Provide a connection that reads all servers, or says which of them is away."""
        away = find_away(engine, url) if self.incomplete else ()
        if self.incomplete and away != self.said.away:
            self.said.away = away
            if away:
                note(f"note: {', '.join(away)} is away: what is read is incomplete")
        if away:
            with self._read_rest(engine, url, away) as connection:
                yield connection
            return
        with explain(engine, url), engines.reading(engine, url) as connection:
            yield connection

    def refuse_incomplete(self, what: str) -> None:
        """Refuse work that would take records on a server that is away for missing ones.

        Raises:
          UserError: the store is opened with ``incomplete``.
        """
        if self.incomplete:
            raise UserError(f"store: {INCOMPLETE}=yes is to read only, not to {what}", "store")

    @contextlib.contextmanager
    def _read_rest(
        self, engine: sa.Engine, url: URL, away: Sequence[str]
    ) -> Iterator[sa.Connection]:
        """Provide a connection on which views without these servers hide the tables."""
        with engines.explain(url), engine.connect() as opened:
            connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            places = read_places(connection)
            for table in TABLES:
                kept = [
                    f"SELECT * FROM {part}" for part, at in places[table.name] if at not in away
                ]
                rows = " UNION ALL ".join(kept) or f"SELECT * FROM public.{table.name} LIMIT 0"
                connection.exec_driver_sql(f"CREATE TEMP VIEW {table.name} AS {rows}")
            connection.commit()
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            try:
                with connection.begin():
                    yield connection
            finally:
                connection.invalidate()  # so that nobody else gets its views

    @contextlib.contextmanager
    def writing(self, engine: sa.Engine, url: URL) -> Iterator[sa.Connection]:
        """Provide a connection that writes all of a block or nothing.

        The servers commit one after the other. What each record was before is kept on the
        coordinator until all have: the next writer takes an unfinished write back.
        """
        self.refuse_incomplete("write")
        while True:
            with explain(engine, url), engines.writing(engine, url) as connection:
                if _undo(connection):
                    continue  # committed, and a turn later
                first = [_read_newest(connection, table) for table in (schema.outbox, PAST)]
                yield connection
                touched = _find_touched(connection, first)
                if touched:
                    _keep_old(engine, touched)
                    connection.exec_driver_sql(f"DELETE FROM {UNDO}")
                return


PAST = schema.history


def make_shards(setting: str | None, url: URL) -> Shards | None:
    """Return the shards of a store by its setting; None if it has none.

    Raises:
      UserError: the URL's ``incomplete`` is wrong.
    """
    wanted = url.query.get(INCOMPLETE)
    if wanted not in (None, "yes", "no"):
        raise UserError(f"store: {INCOMPLETE} must be yes or no, got {wanted!r:.80}", "store")
    if setting is None:
        if wanted == "yes":
            raise UserError(f"store: {INCOMPLETE} is for a store with shards", "store")
        return None
    return Shards(wanted == "yes")


def read_places(connection: sa.Connection) -> dict[str, list[tuple[str, str]]]:
    """Return for each table its partitions, as SQL names, and the servers that they are on."""
    query = (
        "SELECT parent.relname, part.oid::regclass::text, server.srvname FROM pg_inherits"
        " JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class part ON part.oid = inhrelid"
        " JOIN pg_foreign_table ON ftrelid = part.oid"
        " JOIN pg_foreign_server server ON server.oid = ftserver"
        " WHERE parent.relnamespace = current_schema()::regnamespace ORDER BY part.relname"
    )
    found: dict[str, list[tuple[str, str]]] = {table.name: [] for table in TABLES}
    for parent, part, server in connection.exec_driver_sql(query):
        found.setdefault(parent, []).append((part, server))
    return found


def find_away(engine: sa.Engine, url: URL) -> tuple[str, ...]:
    """Return the names of the servers that do not answer."""
    with engines.reading(engine, url) as connection:
        places = read_places(connection)[schema.records.name]
    found = []
    for server, part in {server: part for part, server in places}.items():
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"SELECT 1 FROM {part} LIMIT 1")
        except exc.DBAPIError:
            found.append(server)
    return tuple(sorted(found))


@contextlib.contextmanager
def explain(engine: sa.Engine, url: URL) -> Iterator[None]:
    """Name the server that is away, if an error is due to that.

    Raises:
      UserError: with the cause of the error.
    """
    try:
        yield
    except UserError as error:
        cause = error.__cause__
        if not isinstance(cause, exc.DBAPIError) or not engines.is_away(cause):
            raise
        try:
            away = find_away(engine, url)
        except UserError:
            raise error from cause  # the coordinator itself
        if away:
            cure = f"?{INCOMPLETE}=yes reads what the others have"
            why = f"{', '.join(away)} is away, and nothing was written: {cure}"
        else:
            why = "a server was away for a moment, and nothing was written: try again"
        line = f"store {engines.show(url)}: {why}"
        raise UserError(line, "store") from cause


def _read_newest(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.max(table.c.seq))).scalar() or 0)


def _find_touched(connection: sa.Connection, first: Sequence[int]) -> list[str]:
    """Return the ids of the records that a transaction has written."""
    found: set[str] = set()
    for table, seq in zip((schema.outbox, PAST), first, strict=True):
        query = sa.select(table.c.record).where(table.c.seq > seq).distinct()
        found |= set(connection.execute(query).scalars())
    return sorted(found)


def _keep_old(engine: sa.Engine, ids: Sequence[str]) -> None:
    """Keep the rows of records as they are without the transaction that is about to commit."""
    with engine.connect() as connection, connection.begin():
        named = {"ids": list(ids)}
        connection.execute(
            sa.text(f"INSERT INTO {UNDO} (id) SELECT unnest(CAST(:ids AS text[]))"), named
        )
        for table in TABLES:
            connection.execute(
                sa.text(
                    f"INSERT INTO {UNDO} (name, row) SELECT '{table.name}', to_jsonb(old)"
                    f" FROM {table.name} old WHERE old.{name_key(table)} = ANY(:ids)"
                ),
                named,
            )


def _undo(connection: sa.Connection) -> bool:
    """Take back a write that only some servers committed; return whether there was one."""
    if connection.exec_driver_sql(f"SELECT 1 FROM {UNDO} LIMIT 1").first() is None:
        return False
    touched = f"(SELECT id FROM {UNDO} WHERE id IS NOT NULL)"
    for table in reversed(TABLES):
        connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {name_key(table)} IN {touched}")
    for table in TABLES:
        kept = f"jsonb_populate_record(NULL::{table.name}, {UNDO}.row) old"
        which = f"{UNDO}.name = '{table.name}'"
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} SELECT old.* FROM {UNDO}, {kept} WHERE {which}"
        )
    connection.exec_driver_sql(f"DELETE FROM {UNDO}")
    return True


def list_servers(connection: sa.Connection) -> Mapping[str, int]:
    """Return the servers of a store, with the number of buckets on each."""
    found: dict[str, int] = {}
    for _, server in read_places(connection)[schema.records.name]:
        found[server] = found.get(server, 0) + 1
    return found
