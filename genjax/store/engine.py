"""Open the database of a store, and explain in one line if that or a write is not possible."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL

from genjax.errors import UserError
from genjax.store import schema

PATIENCE = 60  # seconds that a writer waits for another
TURN = 0x67656E6A6178  # the advisory lock that writers take in turn on PostgreSQL
WRITES = "genjax_writes"
OWN = ("replica", "replica_lag", "incomplete")  # parameters of URLs that drivers do not know
CACHE = -64_000  # SQLite's page cache in kB
PG = "psycopg"
GONE = ("57P01", "57P02", "57P03")  # of PostgreSQL: it stops, has crashed, or starts
FULL = ("disk is full", "No space left", "could not extend file", "disk I/O error")


def read_url(text: str) -> URL:
    """Parse the URL of a store; a path stands for an SQLite file.

    Raises:
      UserError: the URL is invalid, or its database is not supported.
    """
    if not text or "\0" in text:
        raise UserError(f"store must be a path or URL, got {text!r}", "store")
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        raise UserError("store must be a path or URL; this URL cannot be read", "store") from None
    name = url.get_backend_name()
    if name not in ("sqlite", "postgresql", "postgres"):
        raise UserError(f"store must be of sqlite:// or postgresql://, got {name}://", "store")
    if name == "postgres":
        url = url.set(drivername="postgresql")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if name == "sqlite" and not url.database:
        raise UserError("store must name a file: sqlite:///PATH", "store")
    return url


def show(url: URL) -> str:
    """Return a URL without its password; for an SQLite file its path."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.difference_update_query(OWN).render_as_string(hide_password=True)


def make_engine(url: URL, read_only: bool = False, patience: int = 10) -> sa.Engine:
    """Return an engine whose writers take turns.

    Args:
      url: URL of the database.
      read_only: whether to refuse writing.
      patience: seconds to wait for a connection to a server.

    Raises:
      UserError: the driver is not installed.
    """
    if url.get_backend_name() == "sqlite":
        return _make_sqlite(url, read_only)
    with explain(url):
        engine = sa.create_engine(
            url.difference_update_query(OWN),
            json_deserializer=functools.partial(json.loads, parse_int=_read_whole),
            pool_pre_ping=True,
            hide_parameters=True,  # values of records are in no traceback
            connect_args={"connect_timeout": patience}
            if url.drivername.endswith("psycopg")
            else {},
        )

    @event.listens_for(engine, "begin")
    def take_turn(connection: sa.Connection) -> None:
        if connection.get_execution_options().get(WRITES):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN})")
        elif read_only:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    return engine


def _read_whole(text: str) -> int | float:
    """Read a whole number of JSON; PostgreSQL writes large fractions as such."""
    number = int(text)
    return number if -(2**63) <= number < 2**63 else float(text)


def _make_sqlite(url: URL, read_only: bool) -> sa.Engine:
    place = Path(url.database or "")
    closed = read_only or (
        place.exists() and not (os.access(place, os.W_OK) and os.access(place.parent, os.W_OK))
    )

    def connect() -> sqlite3.Connection:
        # In a read-only folder there can be no log, so the file itself is complete.
        alone = closed and not os.access(place.parent, os.W_OK)
        mode = "?mode=ro" + ("&immutable=1" if alone else "") if closed else "?mode=rwc"
        connection = sqlite3.connect(
            f"file:{_quote(place)}{mode}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = {CACHE}")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=sa.pool.QueuePool, hide_parameters=True
    )

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _quote(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextlib.contextmanager
def reading(engine: sa.Engine, url: URL) -> Iterator[sa.Connection]:
    """Provide a connection that sees one state of the store."""
    with explain(url), engine.connect() as connection:
        if url.get_backend_name() != "sqlite":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextlib.contextmanager
def writing(engine: sa.Engine, url: URL) -> Iterator[sa.Connection]:
    """Provide a connection that writes all of a block or nothing; writers take turns."""
    with explain(url), engine.connect() as opened:
        connection = opened.execution_options(**{WRITES: True})
        with connection.begin():
            yield connection


@contextlib.contextmanager
def explain(url: URL) -> Iterator[None]:
    """Turn errors of databases and drivers into one line.

    Raises:
      UserError: the database failed; the field is "store".
    """
    try:
        yield
    except exc.NoSuchModuleError:
        raise UserError(f"store: no driver is known for {url.drivername}://", "store") from None
    except ModuleNotFoundError as error:
        cure = "pip install 'genjax-train[store]'"
        raise UserError(f"store: the package {error.name} is missing: {cure}", "store") from None
    except UnicodeEncodeError as error:  # of a value that the driver could not send
        raise UserError("store: a text has half of a surrogate pair", "store") from error
    except (exc.DBAPIError, sqlite3.Error) as error:
        raise _translate(error, url) from error


def _translate(error: Exception, url: URL) -> UserError:
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    place = show(url)
    why = f"cannot be used: {said[:300]}"
    if isinstance(error, exc.DBAPIError) and is_away(error):
        why = f"is away; what it has confirmed is kept: {said[:160]}"
    elif any(word in said for word in FULL):
        why = "cannot be written, its disk is full; what was there is whole, and nothing was added"
    elif "readonly" in said or "read-only" in said:
        why = "can only be read: nothing was written"
    elif "database is locked" in said:
        why = f"is being written by another process for more than {PATIENCE} seconds: try again"
    elif "unable to open" in said:
        why = "cannot be opened: there is no such folder, or it is closed to you"
    elif "not a database" in said or "malformed" in said:
        why = "is damaged, or not a store: put a backup back with genjax store restore"
    elif "no such table" in said or "UndefinedTable" in type(getattr(error, "orig", 0)).__name__:
        why = "is not a store yet: genjax store init makes one"
    return UserError(f"store {place} {why}", "store")


def is_away(error: exc.DBAPIError) -> bool:
    """Return whether a server cannot be reached, or is starting or stopping."""
    if not error.orig.__class__.__module__.startswith(PG):
        return False
    code, said = getattr(error.orig, "sqlstate", None), str(error.orig)
    if code is None:
        answered = "FATAL:" in said and "the database system is" not in said
        return isinstance(error, exc.OperationalError) and not answered
    return str(code).startswith("08") or code in GONE


def check_version(connection: sa.Connection, url: URL) -> None:
    """Refuse a store whose tables are not those of this code.

    Raises:
      UserError: they are missing, older or newer.
    """
    found = read_version(connection)
    place = show(url)
    if found is None:
        refuse_missing(url)
    elif found < schema.VERSION:
        cure = f"genjax store migrate {place}"
        raise UserError(
            f"store {place} is of schema {found}, older than {schema.VERSION}: {cure}", "store"
        )
    elif found > schema.VERSION:
        cure = "update genjax"
        raise UserError(
            f"store {place} is of schema {found}, newer than {schema.VERSION}: {cure}", "store"
        )


def refuse_missing(url: URL) -> NoReturn:
    """Raise the error for a missing store."""
    raise UserError(f"store {show(url)} does not exist: genjax store init makes it", "store")


def read_version(connection: sa.Connection) -> str | None:
    """Return the version of the tables; None if there are none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: Any = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def migrate(engine: sa.Engine, url: URL) -> None:
    """Migrate the tables to the version of this code; create them if there are none.

    Raises:
      UserError: their version is unknown to this code.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "genjax.store:migrations")
    scripts = ScriptDirectory.from_config(config)
    with writing(engine, url) as connection:
        found = read_version(connection)
        if found is None and sa.inspect(connection).get_table_names() and not _shared(url):
            raise UserError(f"store {show(url)} is another database: take another name", "store")
        if found is not None and found > schema.VERSION:
            check_version(connection, url)
        steps = EnvironmentContext(
            config, scripts, fn=lambda now, _: scripts._upgrade_revs("head", now)
        )
        with steps:
            steps.configure(connection=connection, target_metadata=schema.metadata)
            steps.run_migrations()
    if not _shared(url):  # with a log, readers and a writer do not wait for each other
        with explain(url), contextlib.closing(engine.raw_connection()) as raw:
            raw.cursor().execute("PRAGMA journal_mode = WAL")


def _shared(url: URL) -> bool:
    """Return whether the database may hold tables of other programs."""
    return url.get_backend_name() != "sqlite"
