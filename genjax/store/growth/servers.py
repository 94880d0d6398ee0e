"""Where a store on several servers is read and written."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL

from genjax.store import engine as engines
from genjax.store.growth.replicas import Replicas
from genjax.store.growth.shards import Shards

T = TypeVar("T")
Connected = contextlib.AbstractContextManager[sa.Connection]


@dataclass(frozen=True)
class Servers:
    """The servers of a store besides the one that its URL names first.

    Attributes:
      replicas: its replicas; None for none.
      shards: the servers that hold parts of its records; None if it holds them itself.
    """

    replicas: Replicas | None = None
    shards: Shards | None = None

    def fresh(self) -> Servers:
        """Return the same servers, but for reads that must not be old."""
        replicas = None if self.replicas is None else self.replicas.fresh()
        return dataclasses.replace(self, replicas=replicas)

    def reading(self, engine: sa.Engine, url: URL) -> Connected:
        """Return a connection that sees one state of the store."""
        if self.shards is not None:
            return self.shards.reading(engine, url)
        if self.replicas is not None:
            return self.replicas.reading(engine, url)
        return engines.reading(engine, url)

    def writing(self, engine: sa.Engine, url: URL) -> Connected:
        """Return a connection that writes all of a block or nothing."""
        if self.shards is not None:
            return self.shards.writing(engine, url)
        if self.replicas is not None:
            return self.replicas.writing(engine, url)
        return engines.writing(engine, url)

    def browse(self, engine: sa.Engine, url: URL, read: Callable[[sa.Connection], T]) -> T:
        """Return what a function reads, which may be a little old."""
        if self.shards is None and self.replicas is not None:
            return self.replicas.browse(engine, url, read)
        with self.reading(engine, url) as connection:
            return read(connection)

    def refuse_incomplete(self, what: str) -> None:
        """Refuse work that needs every server, see ``Shards``."""
        if self.shards is not None:
            self.shards.refuse_incomplete(what)

    def close(self) -> None:
        """Close the connections to replicas."""
        if self.replicas is not None:
            self.replicas.close()
