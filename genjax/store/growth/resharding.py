"""Spread a store over PostgreSQL servers, and move its records when servers come or go."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.schema import CreateIndex, CreateTable

from genjax.errors import UserError
from genjax.store import engine as engines
from genjax.store import schema
from genjax.store.growth.shards import (
    BUCKETS,
    SETTING,
    TABLES,
    UNDO,
    explain,
    list_servers,
    name_key,
    read_places,
)
from genjax.store.store import Store

FAST = ("enable_partitionwise_join", "enable_partitionwise_aggregate")  # of the planner
OPTIONS = {"async_capable": "true", "batch_size": "500", "fetch_size": "2000"}


def name_server(url: URL) -> str:
    """Return the name of a server in the store, and in messages."""
    return f"shard {url.host}:{url.port or 5432}/{url.database}"[:63]


def read_servers(listed: Sequence[str]) -> dict[str, URL]:
    """Return the URLs of servers by their names.

    Raises:
      UserError: one is not a PostgreSQL URL, is given twice, or there are too many.
    """
    found: dict[str, URL] = {}
    for one in listed:
        url = engines.read_url(one)
        if url.get_backend_name() != "postgresql" or not url.host or not url.database:
            raise UserError("server must be postgresql://HOST:PORT/DATABASE", "server")
        if name_server(url) in found:
            raise UserError(f"server {name_server(url)} is given twice", "server")
        found[name_server(url)] = url
    if not 1 <= len(found) <= BUCKETS:
        raise UserError(f"server must be 1 to {BUCKETS} URLs, got {len(found)}", "server")
    return found


def shard_store(store: Store, listed: Sequence[str]) -> dict[str, int]:
    """Let the records of an empty store lie on servers; return the buckets of each.

    Raises:
      UserError: the store has records or shards, is not on PostgreSQL, or a server is away.
    """
    servers = read_servers(listed)
    if not store.is_postgres:
        raise UserError(f"store {store.place} must be on PostgreSQL to have shards", "store")
    if store.servers.shards is not None:
        raise UserError(f"store {store.place} has shards: genjax store reshard moves them", "store")
    folder = f"genjax_{secrets.token_hex(4)}"
    with engines.writing(store.engine, store.url) as connection:
        if connection.execute(sa.select(schema.history.c.seq).limit(1)).first() is not None:
            cure = "make a new one, and genjax store copy fills it"
            raise UserError(f"store {store.place} must be empty: {cure}", "store")
        _prepare(connection, servers)
        names = list(servers)
        for bucket in range(BUCKETS):
            _make_tables(servers[names[bucket % len(names)]], folder, bucket)
        for table in reversed(TABLES):
            connection.exec_driver_sql(f"DROP TABLE {table.name} CASCADE")
        for table in TABLES:
            connection.execute(CreateTable(_partitioned(table)))
            for bucket in range(BUCKETS):
                part = _foreign(table, folder, bucket, names[bucket % len(names)])
                connection.exec_driver_sql(
                    f"CREATE FOREIGN TABLE {table.name}_{bucket} PARTITION OF {table.name}"
                    f" FOR VALUES WITH (MODULUS {BUCKETS}, REMAINDER {bucket}) {part}"
                )
        connection.exec_driver_sql(f"CREATE TABLE {UNDO} (id text, name text, row jsonb)")
        connection.execute(schema.settings.insert().values(name=SETTING, value=folder))
        return dict(list_servers(connection))


def reshard(store: Store, listed: Sequence[str]) -> dict[str, int]:
    """Move buckets so that these servers hold about as many each; return the buckets of each.

    One bucket after the other is copied, counted and switched over in one transaction, while
    writers wait. After a kill, the same call goes on.

    Raises:
      UserError: the store has no shards, or a server is away.
    """
    servers = read_servers(listed)
    if store.servers.shards is None:
        raise UserError(f"store {store.place} has no shards: genjax store shard", "store")
    with store.writing() as connection:  # takes back what was left unfinished
        _prepare(connection, servers)
        folder = _read_folder(connection)
        places = _read_buckets(connection)
        urls = _read_urls(connection, store.url) | servers
    for bucket, target in plan_moves(places, list(servers)).items():
        for name in {target, places[bucket]}:
            _remove_tables(urls[name], folder, _attached(store, name))
        _make_tables(servers[target], folder, bucket)
        with explain(store.engine, store.url), store.writing() as connection:
            _move(connection, folder, bucket, target)
    with store.writing() as connection:
        used = list_servers(connection)
    for name in urls.keys() - used.keys():
        _remove_tables(urls[name], folder, set())
    for name in urls:
        if name in used:
            _remove_tables(urls[name], folder, _attached(store, name))
    with store.writing() as connection:
        for name in urls.keys() - used.keys():
            connection.exec_driver_sql(f"DROP SERVER {_quote(name)} CASCADE")
    return dict(used)


def plan_moves(places: Mapping[int, str], servers: Sequence[str]) -> dict[int, str]:
    """Return which buckets move to which servers; as few as leave each about as many."""
    least, more = divmod(len(places), len(servers))
    held = {name: [b for b, at in sorted(places.items()) if at == name] for name in servers}
    fullest = sorted(servers, key=lambda name: -len(held[name]))
    room = {name: least + (i < more) for i, name in enumerate(fullest)}
    kept = {bucket for name in servers for bucket in held[name][: room[name]]}
    free = (name for name in servers for _ in range(room[name] - len(held[name][: room[name]])))
    return {bucket: next(free) for bucket in sorted(places) if bucket not in kept}


def _prepare(connection: sa.Connection, servers: Mapping[str, URL]) -> None:
    """Make the coordinator know servers, and plan queries for parts of tables."""
    there = "SELECT 1 FROM pg_available_extensions WHERE name = 'postgres_fdw'"
    if connection.exec_driver_sql(there).first() is None:
        cure = "install PostgreSQL's contrib modules there"
        raise UserError(f"store: its server has no postgres_fdw: {cure}", "store")
    connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
    database = connection.exec_driver_sql("SELECT current_database()").scalar_one()
    for name in FAST:
        connection.exec_driver_sql(f"ALTER DATABASE {_quote(database)} SET {name} = on")
    query = "SELECT srvname FROM pg_foreign_server"
    known = set(connection.exec_driver_sql(query).scalars())
    for name, url in servers.items():
        if name in known:
            continue
        place = {"host": str(url.host), "port": str(url.port or 5432), "dbname": url.database or ""}
        connection.exec_driver_sql(
            f"CREATE SERVER {_quote(name)} FOREIGN DATA WRAPPER postgres_fdw"
            f" OPTIONS ({_options(place | OPTIONS | {'connect_timeout': '5'})})"
        )
        who = {"user": url.username, "password": url.password}
        given = {key: str(value) for key, value in who.items() if value is not None}
        connection.exec_driver_sql(
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER {_quote(name)}"
            f" OPTIONS ({_options(given)})"
            if given
            else f"CREATE USER MAPPING FOR CURRENT_USER SERVER {_quote(name)}"
        )


@contextlib.contextmanager
def _open(url: URL) -> Iterator[sa.Connection]:
    """Provide a connection to a server."""
    engine = engines.make_engine(url)
    try:
        with engines.explain(url), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _make_tables(url: URL, folder: str, bucket: int) -> None:
    """Make the tables of a bucket on a server, with the keys that hold within a bucket."""
    made = sa.MetaData(schema=folder)
    with _open(url) as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {folder}")
        for table in TABLES:
            columns = [
                sa.Column(c.name, c.type, nullable=c.nullable, primary_key=c.primary_key)
                for c in table.c
            ]
            checks = [
                sa.CheckConstraint(one.sqltext, name=one.name)
                for one in table.constraints
                if isinstance(one, sa.CheckConstraint)
            ]
            own: list[sa.ForeignKeyConstraint] = []
            if table is not schema.records:
                there = [f"{folder}.{schema.records.name}_{bucket}.id"]
                own.append(sa.ForeignKeyConstraint([name_key(table)], there))
            part = sa.Table(f"{table.name}_{bucket}", made, *columns, *checks, *own)
            connection.execute(CreateTable(part))
            for index in table.indexes:
                named = [part.c[column.name] for column in index.columns]
                using = index.dialect_kwargs.get("postgresql_using") or "btree"
                both = sa.Index(f"{index.name}_{bucket}", *named, postgresql_using=using)
                connection.execute(CreateIndex(both))


def _partitioned(table: sa.Table) -> sa.Table:
    by = f"HASH ({name_key(table)})"
    return sa.Table(table.name, sa.MetaData(), *_columns(table), postgresql_partition_by=by)


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    return [sa.Column(c.name, c.type, nullable=c.nullable) for c in table.c]


def _foreign(table: sa.Table, folder: str, bucket: int, server: str) -> str:
    place = _options({"schema_name": folder, "table_name": f"{table.name}_{bucket}"})
    return f"SERVER {_quote(server)} OPTIONS ({place})"


def _move(connection: sa.Connection, folder: str, bucket: int, target: str) -> None:
    """Copy a bucket's rows to its tables on another server, and use these from now on."""
    for table in TABLES:
        part, new = f"{table.name}_{bucket}", f"{table.name}_{bucket}_new"
        plain = CreateTable(sa.Table(new, sa.MetaData(), *_columns(table)))
        made = str(plain.compile(connection)).replace("CREATE TABLE", "CREATE FOREIGN TABLE", 1)
        connection.exec_driver_sql(f"{made} {_foreign(table, folder, bucket, target)}")
        copied = connection.exec_driver_sql(f"INSERT INTO {new} SELECT * FROM {part}").rowcount
        held = connection.exec_driver_sql(f"SELECT count(*) FROM {part}").scalar_one()
        if connection.exec_driver_sql(f"SELECT count(*) FROM {new}").scalar_one() != held:
            raise UserError(f"store: {copied:,} of {held:,} rows of {part} were copied", "store")
    for table in TABLES:
        name, part, new = table.name, f"{table.name}_{bucket}", f"{table.name}_{bucket}_new"
        connection.exec_driver_sql(f"ALTER TABLE {name} DETACH PARTITION {part}")
        connection.exec_driver_sql(f"DROP FOREIGN TABLE {part}")
        connection.exec_driver_sql(f"ALTER FOREIGN TABLE {new} RENAME TO {part}")
        connection.exec_driver_sql(
            f"ALTER TABLE {name} ATTACH PARTITION {part}"
            f" FOR VALUES WITH (MODULUS {BUCKETS}, REMAINDER {bucket})"
        )


def _remove_tables(url: URL, folder: str, attached: set[str]) -> None:
    """Remove the tables on a server that the store does not use: what a kill or a move left."""
    with _open(url) as connection:
        query = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = :folder")
        found = set(connection.execute(query, {"folder": folder}).scalars())
        for name in sorted(found - attached):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {folder}.{name} CASCADE")
        if not attached:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {folder}")


def _attached(store: Store, server: str) -> set[str]:
    with engines.reading(store.engine, store.url) as connection:
        places = read_places(connection)
    return {part for parts in places.values() for part, at in parts if at == server}


def _read_folder(connection: sa.Connection) -> str:
    table = schema.settings
    query = sa.select(table.c.value).where(table.c.name == SETTING)
    return str(connection.execute(query).scalar_one())


def _read_buckets(connection: sa.Connection) -> dict[int, str]:
    found = read_places(connection)[schema.records.name]
    return {int(part.rpartition("_")[2]): server for part, server in found}


def _read_urls(connection: sa.Connection, url: URL) -> dict[str, URL]:
    """Return the URLs of the servers that the coordinator knows."""
    query = (
        "SELECT srvname, srvoptions, umoptions FROM pg_user_mappings"
        " JOIN pg_foreign_server USING (srvname) WHERE srvname LIKE 'shard %%'"
        " AND usename = CURRENT_USER"
    )
    found = {}
    for name, place, who in connection.exec_driver_sql(query):
        given = dict(one.split("=", 1) for one in (*place, *(who or ())))
        found[name] = URL.create(
            "postgresql+psycopg",
            given.get("user"),
            given.get("password"),
            given["host"],
            int(given["port"]),
            given["dbname"],
        )
    return found


def _options(values: Mapping[str, str]) -> str:
    """Return options of servers and tables in SQL."""
    pairs = []
    for name, value in values.items():
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        pairs.append(f"{name} E'{escaped}'")
    return ", ".join(pairs)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
