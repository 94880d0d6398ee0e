"""Take what was erased out of the files of databases and indexes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import engine as engines
from genjax.store import followers, schema
from genjax.store.index.opening import open_engine
from genjax.store.index.postgres import ENTRIES
from genjax.store.maintenance import analyse
from genjax.store.searching import find_index
from genjax.store.store import Store

PATIENCE = 10.0  # seconds to wait for those who still read what was erased
STATISTICS = "sqlite_stat1"


def list_indexes(store: Store, more: Sequence[str] = ()) -> list[str]:
    """Return the URLs of a store's indexes: the one beside it, those that follow it, and more."""
    own = (find_index(store, None),) if not store.is_postgres or _has_tables(store) else ()
    named = {followers.name_index(one): one for one in (*own, *more)}
    for name in followers.list_followers(store):
        named.setdefault(name, name)
    return [url for url in named.values() if _is_there(url)]


def _has_tables(store: Store) -> bool:
    with store.reading() as connection:
        return sa.inspect(connection).has_table(ENTRIES)


def _is_there(url: str) -> bool:
    return "://" in url or Path(url.removeprefix("faiss:")).expanduser().exists()


def purge_index(url: str, ids: Sequence[str]) -> bool:
    """Take records out of an index and all of its files; return whether there is one.

    Raises:
      UserError: it cannot be opened.
    """
    if not _is_there(url):
        return False
    engine = open_engine(url)
    try:
        if engine.read_state() is None:
            return False
        engine.remove(ids)
        engine.purge()
        return True
    finally:
        engine.close()


def purge_database(store: Store) -> None:
    """Write the files of the database again, without what was deleted.

    Raises:
      UserError: somebody still reads what was deleted.
    """
    with engines.explain(store.url):
        (_purge_postgres if store.is_postgres else _purge_sqlite)(store)


def _purge_sqlite(store: Store) -> None:
    with store.reading() as connection:
        analysed = sa.inspect(connection).has_table(STATISTICS)
    if analysed:
        analyse(store)  # some builds keep samples of values
    with contextlib.closing(store.engine.raw_connection()) as raw:
        cursor = raw.cursor()
        cursor.execute("VACUUM")
        end = time.monotonic() + PATIENCE
        while True:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy = cursor.fetchone()
            if busy is None or not busy[0]:
                return
            _wait(store, end)


def _purge_postgres(store: Store) -> None:
    old = (
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND datname = current_database() AND age(backend_xmin) > age(%s::text::xid)"
    )
    with store.engine.connect() as opened:
        connection = opened.execution_options(isolation_level="AUTOCOMMIT")
        number = connection.exec_driver_sql("SELECT pg_current_xact_id()::xid::text").scalar()
        end = time.monotonic() + PATIENCE
        while connection.exec_driver_sql(old, (str(number),)).scalar():
            _wait(store, end)
        quote = connection.dialect.identifier_preparer.quote
        for table in schema.metadata.sorted_tables:
            connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {quote(table.name)}")
        # The planner's statistics hold values of the columns.
        for statement in ("VACUUM FULL pg_catalog.pg_statistic", "CHECKPOINT"):
            with contextlib.suppress(sa.exc.ProgrammingError):  # of a user who may not
                connection.exec_driver_sql(statement)


def _wait(store: Store, end: float) -> None:
    if time.monotonic() > end:
        cure = "run genjax store forget again when it has ended"
        raise UserError(f"store {store.place} is still read by another process: {cure}", "store")
    time.sleep(0.1)
