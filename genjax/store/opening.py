"""Open, create and migrate stores."""

from __future__ import annotations

import dataclasses
import getpass
import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL

from genjax.errors import UserError
from genjax.store import engine as engines
from genjax.store import schema
from genjax.store.audit.chain import adopt
from genjax.store.blobs import SECRET, Blobs
from genjax.store.growth.replicas import find_replicas
from genjax.store.growth.servers import Servers
from genjax.store.growth.shards import SETTING, make_shards
from genjax.store.limits import Limits, check_text
from genjax.store.store import Store


def open_store(
    url: str,
    create: bool = False,
    *,
    blobs: str | None = None,
    user: str | None = None,
    read_only: bool = False,
    limits: Limits = Limits(),
) -> Store:
    """Open a store of records.

    Args:
      url: path of an SQLite file, or an SQLAlchemy URL: sqlite:// or postgresql://.
      create: whether to create the store if it does not exist.
      blobs: folder or fsspec URL of large payloads, recorded when the store is created; None for
        one beside the SQLite file.
      user: name of the writer, for the history; None for the logged-in user.
      read_only: whether to refuse writing.
      limits: largest records.

    Raises:
      UserError: the URL or its driver is unknown, or the store does not exist, cannot be opened, or
        has another schema.
    """
    found = engines.read_url(url)
    sqlite = found.get_backend_name() == "sqlite"
    place = Path(found.database or "")
    if sqlite:
        _check_place(place, create, found)
    engine = engines.make_engine(found, read_only)
    version = None
    if create:
        with engines.reading(engine, found) as connection:
            version = engines.read_version(connection)
    if create and version is None:
        engines.migrate(engine, found)
        beside = "" if sqlite else None
        _keep(engine, found, "blobs", beside if blobs is None else _absolute(blobs))
    elif create and blobs is not None:
        raise UserError(f"store {engines.show(found)} is there already, with its blobs", "blobs")
    servers = Servers(find_replicas(found))
    with servers.reading(engine, found) as connection:
        engines.check_version(connection, found)
        table = schema.settings
        query = sa.select(table.c.name, table.c.value).where(table.c.name.in_(("blobs", SETTING)))
        settings = {name: value for name, value in connection.execute(query)}
    servers = dataclasses.replace(servers, shards=make_shards(settings.get(SETTING), found))
    kept = settings.get("blobs")
    if blobs is None:
        blobs = str(place.absolute().with_suffix(".blobs")) if kept == "" else kept
    name = user if user is not None else _find_user()
    check_text(name, "user", limits.name)
    return Store(found, engine, None if blobs is None else Blobs(blobs), name, limits, servers)


def _check_place(place: Path, create: bool, url: URL) -> None:
    """Refuse a path where no store exists or can be created; to create one, make its folder."""
    try:
        if place.is_dir():
            raise UserError(f"store {place} must be a file, but is a folder", "store")
        if not create and not place.exists():
            engines.refuse_missing(url)
        if create:
            place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"store {place} cannot be opened: {error.strerror}", "store") from None


def migrate_store(url: str) -> None:
    """Migrate a store's tables to the schema of this code.

    Raises:
      UserError: the store does not exist, is newer, or cannot be written.
    """
    found = engines.read_url(url)
    if found.get_backend_name() == "sqlite" and not Path(found.database or "").is_file():
        raise UserError(f"store {engines.show(found)} does not exist", "store")
    engine = engines.make_engine(found)
    with engines.reading(engine, found) as connection:
        version = engines.read_version(connection)
    if version is None:
        engines.refuse_missing(found)
    engines.migrate(engine, found)
    with engines.writing(engine, found) as connection:
        adopt(connection, _find_user())


def _absolute(blobs: str) -> str:
    if SECRET.search(blobs):
        cure = "set it in the environment, or in the file of the bucket's driver"
        raise UserError(f"blobs must be a URL without a password, which is kept: {cure}", "blobs")
    return blobs if "://" in blobs else str(Path(blobs).expanduser().absolute())


def _keep(engine: sa.Engine, url: URL, name: str, value: str | None) -> None:
    if value is not None:
        with engines.writing(engine, url) as connection:
            connection.execute(schema.settings.insert().values(name=name, value=value))


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"uid {os.getuid()}"
