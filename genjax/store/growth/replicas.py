"""Read from streaming replicas of a PostgreSQL server, and when it is away.

A replica follows its primary with a delay. A read that may be old goes to a replica that has
replayed this process's own last commit and does not lag too far; otherwise to the primary.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL

from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.store import engine as engines

T = TypeVar("T")
REPLICA, LAG = "replica", "replica_lag"  # parameters of the URL
MOST_LAG = 60.0  # seconds, unless the URL says otherwise
REST = 2.0  # seconds until a replica that failed is tried again
ALL = "FFFFFFFF/FFFFFFFF"  # a position that no replica has reached
STATE = sa.text(
    "SELECT pg_is_in_recovery() AS follows,"
    " pg_last_wal_replay_lsn() >= CAST(:lsn AS pg_lsn) AS has_own,"
    " CASE WHEN pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()"
    " AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0"
    " ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END AS lag,"
    " extract(epoch FROM now() - pg_last_xact_replay_timestamp()) AS age,"
    " (SELECT system_identifier FROM pg_control_system()) AS system"
)


@dataclass
class Seen:
    """What a process knows of its servers; it changes as they do.

    Attributes:
      lsn: position of the last own commit in the primary's log.
      rests: until when each replica rests, after it failed.
      away: whether the primary was away at the last read.
      system: the primary's own number, which its replicas share; None until it is read.
    """

    lsn: str = "0/0"
    rests: dict[URL, float] = field(default_factory=dict)
    away: bool = False
    system: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Replicas:
    """The replicas of a primary.

    Attributes:
      engines: an engine of each replica, by its URL.
      lag: most seconds that a replica may lag behind.
      seen: what is known of the servers.
      old: whether reads may be old.
    """

    engines: Mapping[URL, sa.Engine]
    lag: float = MOST_LAG
    seen: Seen = field(default_factory=Seen)
    old: bool = True

    def fresh(self) -> Replicas:
        """Return the same replicas, for use only while the primary is away."""
        return dataclasses.replace(self, old=False)

    def browse(self, engine: sa.Engine, url: URL, read: Callable[[sa.Connection], T]) -> T:
        """Return what a function reads, which may be old; it is called again if a server fails.

        Raises:
          UserError: the read fails on the primary, or no server answers.
        """
        for place, replica in self.engines.items() if self.old else ():
            if self._follows(engine, place, replica):
                try:
                    with engines.reading(replica, place) as connection:
                        return read(connection)
                except UserError as error:  # the primary decides whether that is right
                    if is_away(error):
                        self._rest(place)
        try:
            with self.reading(engine, url) as connection:
                return read(connection)
        except UserError as error:
            if not is_away(error):
                raise
        with self.reading(engine, url) as connection:  # it failed in the middle
            return read(connection)

    @contextlib.contextmanager
    def reading(self, engine: sa.Engine, url: URL) -> Iterator[sa.Connection]:
        """Provide a connection to the primary, or to a replica while it is away."""
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(engines.reading(engine, url))
                self.seen.away = False
            except UserError as error:
                found = self._find_any(stack) if is_away(error) else None
                if found is None:
                    raise
                connection, place, age = found
                if not self.seen.away:
                    self.seen.away = True
                    said = "its last change is of an unknown time"
                    if age is not None:
                        said = f"what it read last is {age:,.0f} s old"
                    note(
                        f"note: the primary {engines.show(url)} is away: reads go on from the "
                        f"replica {place.host}:{place.port}, {said}"
                    )
            yield connection

    @contextlib.contextmanager
    def writing(self, engine: sa.Engine, url: URL) -> Iterator[sa.Connection]:
        """Provide a connection that writes, and remember the position of its commit."""
        with engines.writing(engine, url) as connection:
            yield connection
        try:
            with engine.connect() as connection:
                query = "SELECT CAST(pg_current_wal_insert_lsn() AS text)"
                lsn = str(connection.exec_driver_sql(query).scalar_one())
        except exc.DBAPIError:
            lsn = ALL
        with self.seen.lock:
            self.seen.lsn = lsn

    def close(self) -> None:
        """Close all connections to replicas."""
        for engine in self.engines.values():
            engine.dispose()

    def _follows(self, primary: sa.Engine, place: URL, engine: sa.Engine) -> bool:
        """Return whether a replica has the own commits, and does not lag too far.

        Raises:
          UserError: it is a replica of another server.
        """
        if self.seen.rests.get(place, 0.0) > time.monotonic():
            return False
        try:
            with engine.connect() as connection:  # before the snapshot that is then read
                row = connection.execute(STATE, {"lsn": self.seen.lsn}).one()
        except exc.DBAPIError:
            self._rest(place)
            return False
        if self.seen.system is None:
            with contextlib.suppress(exc.DBAPIError), primary.connect() as connection:
                self.seen.system = connection.execute(STATE, {"lsn": "0/0"}).one().system
        if self.seen.system not in (None, row.system):
            line = f"store: {REPLICA} {place.host}:{place.port} does not follow this server"
            raise UserError(line, "store")
        return bool(row.follows and row.has_own and row.lag is not None and row.lag <= self.lag)

    def _rest(self, place: URL) -> None:
        self.seen.rests[place] = time.monotonic() + REST

    def _find_any(
        self, stack: contextlib.ExitStack
    ) -> tuple[sa.Connection, URL, float | None] | None:
        """Return a connection to the first replica that answers, with its URL and age."""
        for place, engine in self.engines.items():
            with contextlib.suppress(UserError):
                connection = stack.enter_context(engines.reading(engine, place))
                row = connection.execute(STATE, {"lsn": self.seen.lsn}).one()
                return connection, place, None if row.age is None else float(row.age)
        return None


def find_replicas(url: URL) -> Replicas | None:
    """Return the replicas that a URL names by ``replica=HOST:PORT``; None if it names none.

    Raises:
      UserError: one of them, or the lag, cannot be read, or the store is not on PostgreSQL.
    """
    named = url.query.get(REPLICA, ())
    listed = (named,) if isinstance(named, str) else named
    lag = url.query.get(LAG, str(MOST_LAG))
    if not listed and LAG not in url.query:
        return None
    if url.get_backend_name() != "postgresql":
        raise UserError(f"store: {REPLICA} goes with postgresql://", "store")
    try:
        most = float(lag) if isinstance(lag, str) else -1.0
    except ValueError:
        most = -1.0
    if not 0 <= most < float("inf"):
        raise UserError(f"store: {LAG} must be seconds of at least 0, got {lag!r:.80}", "store")
    return Replicas(
        {place: engines.make_engine(place, True) for place in _places(url, listed)}, most
    )


def _places(url: URL, listed: tuple[str, ...]) -> list[URL]:
    found = []
    for one in listed:
        try:
            place = sa.make_url(f"postgresql://{one}")
            right = place.host is not None and place.username is None and not place.database
        except (exc.ArgumentError, ValueError):
            right = False
        if not right:
            raise UserError(f"store: {REPLICA} must be HOST:PORT, got {one!r:.80}", "store")
        found.append(url.set(host=place.host, port=place.port or url.port or 5432))
    return found


def is_away(error: UserError) -> bool:
    """Return whether a read failed because its server cannot be reached, or ended it."""
    cause = error.__cause__
    if not isinstance(cause, exc.DBAPIError):
        return False
    return cause.connection_invalidated or engines.is_away(cause)
