"""The store of records: add, read, change and delete them, with a history."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import URL

from genjax.errors import UserError, unknown_name
from genjax.store import engine as engines
from genjax.store import schema
from genjax.store.access.access import FULL, Access
from genjax.store.access.views import lift
from genjax.store.audit import chain
from genjax.store.audit.chain import Rows
from genjax.store.audit.erasing import erase_rows, refuse_needed
from genjax.store.blobs import Blobs
from genjax.store.filters import All, Filter
from genjax.store.growth.servers import Servers
from genjax.store.limits import Limits, check_record, check_text
from genjax.store.lookups import find_ids, find_known, find_used, refuse_known
from genjax.store.privacy.columns import NONE
from genjax.store.privacy.guard import Guard
from genjax.store.query import Query
from genjax.store.records import Payload, Record, Wanted
from genjax.store.references import check_change, check_references
from genjax.store.rows import (
    Change,
    Pending,
    Row,
    fill,
    insert,
    load,
    make_ids,
    name_kind,
    now,
    to_rows,
    to_time,
)

T = TypeVar("T")
PAGE = 1_000  # records read at once
FIXED = ("id", "origin")  # fields that never change


@dataclass(frozen=True)
class Store:
    """Records in a database, their blobs beside it.

    Attributes:
      url: URL of the database.
      engine: engine of the database.
      blobs: place of large payloads; None for none.
      user: name of the writer.
      limits: largest records.
      servers: its replicas and shards.
      guard: keys and rules of its protection.
      cleans: whether new records are cleaned of personal data, if the rules say so.
      access: rights of the principal that sees the store.
    """

    url: URL
    engine: sa.Engine
    blobs: Blobs | None
    user: str
    limits: Limits
    servers: Servers = Servers()
    guard: Guard = NONE
    cleans: bool = True
    access: Access = FULL

    @property
    def place(self) -> str:
        """Name of the store in messages: a path, or a URL without its password."""
        return engines.show(self.url)

    @property
    def is_postgres(self) -> bool:
        """Whether PostgreSQL holds the records, and not SQLite."""
        return self.engine.dialect.name == "postgresql"

    def reading(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """Return a connection that sees one state of the store."""
        return self.access.limit(self.servers.reading(self.engine, self.url))

    def browse(self, read: Callable[[sa.Connection], T]) -> T:
        """Return what a function reads, from a replica where one is recent enough."""
        return self.servers.browse(self.engine, self.url, self.access.limit_read(read))

    def fresh(self) -> Store:
        """Return the same store, but without reads that may be old."""
        return dataclasses.replace(self, servers=self.servers.fresh())

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Provide a connection that writes all of a block or nothing; writers take turns."""
        written = self.servers.writing(self.engine, self.url)
        with self.access.limit(written, writes=True) as connection:
            self.guard.follow(connection)
            yield connection

    def for_(self, access: Access) -> Store:
        """Return the store as a principal sees it; the connections are shared."""
        user = self.user if access.principal is None else access.principal.name
        return dataclasses.replace(self, access=access, user=user)

    def read_for(self, purpose: str) -> Store:
        """Return the store with only what may be read for a purpose, such as "export"."""
        return self.for_(self.access.read_for(purpose))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self.servers.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, *records: Record) -> tuple[str, ...]:
        """Add records, all or none; return their ids.

        Args:
          records: records, which may refer to each other by ids set by the caller.

        Raises:
          UserError: a record is invalid, refers to a missing one, or its id exists; the message
            names the field.
        """
        new, known = self._add(records)
        refuse_known(known)
        return tuple(record.id for record in new)

    def add_new(self, records: Sequence[Record]) -> int:
        """Add the records with new ids, all or none; return their number."""
        new, known = self._add(records, skip_known=True)
        return len(new) - len(known)

    def add_within(
        self, connection: sa.Connection, records: Sequence[Record], skip_known: bool = False
    ) -> tuple[str, ...]:
        """Add records within a transaction, see ``add``; or only those with new ids."""
        new, known = self._write_new(connection, self._fill(records), skip_known)
        refuse_known(set() if skip_known else known)
        return tuple(record.id for record in new)

    def _add(
        self, records: Sequence[Record], skip_known: bool = False
    ) -> tuple[list[Record], set[str]]:
        plan, filled = self.guard.plan, self._fill(records)
        with self.writing() as connection:
            if self.guard.plan != plan:  # somebody has changed it
                filled = [self._clean(record) for record in filled]
            return self._write_new(connection, filled, skip_known)

    def _fill(self, records: Sequence[Record]) -> list[Record]:
        time = now()
        return [
            fill(self._clean(record), one, time)
            for record, one in zip(records, make_ids(len(records)), strict=True)
        ]

    def _write_new(
        self, connection: sa.Connection, filled: list[Record], skip_known: bool
    ) -> tuple[list[Record], set[str]]:
        known = find_known(connection, [r.id for r in filled if r.id])
        if not known or skip_known:
            new = [record for record in filled if record.id not in known]
            check_references(connection, new)
            stored = [self._store_bytes(connection, record) for record in new]
            self._insert(connection, stored, now())
        return filled, known

    def get(self, one: str, origin: Wanted = "real") -> Record:
        """Return the record with an id.

        Raises:
          UserError: it does not exist, was deleted, or has another origin than requested.
        """
        check_text(one, "id", self.limits.name)
        with self.reading() as connection:
            row = connection.execute(
                sa.select(schema.records.c.origin, schema.records.c.deleted).where(
                    schema.records.c.id == one
                )
            ).first()
            if row is None or row.deleted is not None:
                what = "does not exist" if row is None else "was deleted"
                raise UserError(f"id: record {one!r:.80} {what}", "id")
            if origin not in ("any", row.origin):
                raise UserError(
                    f"origin: record {one} is {row.origin}: ask for it by origin", "origin"
                )
            return load(connection, [one])[0]

    def select(
        self,
        filter: Filter | str = All(()),
        *,
        kind: str | None = None,
        origin: Wanted = "real",
        order: str = "time",
        limit: int | None = None,
        after: str | None = None,
    ) -> Iterator[Record]:
        """Return the records that a filter holds for, read a page at a time.

        Args:
          filter: a tree, or its text, see ``parse_filter``. Besides fields it knows
            ``score.NAME``, the value of valid feedback on a record.
          kind: of the records; None of all.
          origin: "real", "synthetic", or "any".
          order: a field, "-" before it for the largest first; equal ones in the order of ids.
          limit: how many at most.
          after: the id of the last record of the page before.

        Raises:
          UserError: a field is not known, or compared with a value of another type.
        """
        query = Query(filter, kind, origin, order)
        query.refuse_encrypted(self.engine)  # raises errors here, not at the first record
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise UserError(f"limit must be at least 0, got {limit!r}", "limit")
        return self._pages(query, limit, after)

    def _pages(self, query: Query, limit: int | None, after: str | None) -> Iterator[Record]:
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            read = functools.partial(_read_page, query=query, size=size, after=after)
            ids, page = self.browse(read)
            yield from page
            if len(ids) < size:
                return
            after = ids[-1]
            left = None if left is None else left - size

    def count(
        self, filter: Filter | str = All(()), *, kind: str | None = None, origin: Wanted = "real"
    ) -> int:
        """Return the number of records that match a filter; see ``select``."""
        query, _, _ = Query(filter, kind, origin).compile(
            sa.func.count(), postgres=self.is_postgres
        )
        return int(self.browse(lambda connection: connection.execute(query).scalar_one()))

    def update(self, one: str, **changes: Any) -> Record:
        """Change fields of a record and return it. The old values stay in its history.

        Raises:
          UserError: there is no such record or field, or a value is invalid.
        """
        with self.writing() as connection:
            return self.change(connection, one, changes)

    def change(self, connection: sa.Connection, one: str, changes: Mapping[str, Any]) -> Record:
        """Change a record within a transaction, see ``update``."""
        before = self._require(connection, one)
        names = {f.name for f in dataclasses.fields(before)}
        for name in changes:
            if name in FIXED:
                raise UserError(f"{name} of a record never changes", name)
            if name not in names:
                raise unknown_name("field", name, names)
        after = self._clean(dataclasses.replace(before, **changes))
        after = fill(after, one, now())
        check_change(connection, after, before)
        after = self._store_bytes(connection, after)
        self._write_change(connection, before, after)
        return after

    def _write_change(self, connection: sa.Connection, before: Record, after: Record) -> None:
        self.access.check_change(connection, before, after)
        old, new = to_rows(before), to_rows(after)
        fields: Row = {}
        table = schema.KINDS[name_kind(after)]
        for target, was, is_ in ((schema.records, old[0], new[0]), (table, old[1], new[1])):
            changed = {name: value for name, value in is_.items() if was[name] != value}
            fields |= {name: [was[name], value] for name, value in changed.items()}
            if changed:
                connection.execute(target.update().where(target.c.id == after.id).values(changed))
        if before.parents != after.parents:
            fields["parents"] = [list(before.parents), list(after.parents)]
            links = schema.links
            connection.execute(links.delete().where(links.c.child == after.id))
            insert(connection, links, new[2])
        if fields:
            self._note(connection, [after.id], "update", fields)

    def delete(self, *ids: str) -> None:
        """Hide records: nobody reads them until ``undelete``.

        Raises:
          UserError: one does not exist; then none is deleted.
        """
        self._hide(ids, now())

    def undelete(self, *ids: str) -> None:
        """Show deleted records again."""
        self._hide(ids, None)

    def _hide(self, ids: Sequence[str], time: int | None) -> None:
        table = schema.records
        with self.writing() as connection:
            self.access.permit(connection, "delete", ids)
            for one in ids:
                hidden = table.c.deleted.is_not(None) if time is None else table.c.deleted.is_(None)
                found = connection.execute(
                    table.update().where(table.c.id == one, hidden).values(deleted=time)
                )
                if found.rowcount != 1:
                    what = "is not deleted" if time is None else "does not exist"
                    raise UserError(f"id: record {one!r:.80} {what}", "id")
            self._note(connection, ids, "undelete" if time is None else "delete")

    def erase(self, *ids: str) -> None:
        """Remove records for good, with their history, and blobs that no other record has.

        Raises:
          UserError: another record still names one of them.
        """
        with self.writing() as connection:
            self.access.permit(connection, "erase", ids)
            refuse_needed(connection, ids)
            with lift(connection):
                blobs = erase_rows(connection, ids, self.user)
        self.remove_unused(blobs)

    def remove_unused(self, blobs: set[str]) -> None:
        """Remove blobs without records, while nobody adds any."""
        if not blobs or self.blobs is None:
            return
        with self.writing() as connection:
            used = find_used(connection, blobs)
            for digest in sorted(blobs - used):
                self.blobs.remove(digest)

    def read_blob(self, payload: Payload) -> bytes:
        """Return the bytes of a payload.

        Raises:
          UserError: it has none, or they are missing or damaged.
        """
        if payload.blob is None:
            raise UserError("payload has no blob", "payload.blob")
        if self.access.principal is not None:
            with self.reading() as connection:
                if not self.access.sees_blob(connection, payload.blob):
                    raise UserError(f"payload.blob {payload.blob} is not stored", "payload.blob")
        return self._require_blobs().read(payload.blob)

    def history(self, one: str) -> list[Change]:
        """Return the changes of a record, oldest first."""
        table = schema.history
        query = sa.select(table).where(table.c.record == one).order_by(table.c.seq)
        with self.reading() as connection:
            return [
                Change(row.record, row.user, to_time(row.time), row.action, row.changes or {})
                for row in connection.execute(query)
            ]

    def read_outbox(self, after: int = 0, limit: int = PAGE) -> list[Pending]:
        """Return the changes after a given one that the index has to follow, oldest first."""
        table = schema.outbox
        query = sa.select(table).where(table.c.seq > after).order_by(table.c.seq).limit(limit)
        with self.reading() as connection:
            return [Pending(row.seq, row.record, row.action) for row in connection.execute(query)]

    def count_outbox(self, after: int = 0) -> int:
        """Return the number of changes after a given one."""
        table = schema.outbox
        query = sa.select(sa.func.count()).where(table.c.seq > after)
        with self.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def newest_change(self) -> int:
        """Return the number of the newest change; 0 if there is none."""
        with self.reading() as connection:
            query = sa.select(sa.func.max(schema.outbox.c.seq))
            return int(connection.execute(query).scalar() or 0)

    def tag(self, *ids: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Add and remove tags of records, all or none."""
        with self.writing() as connection:
            for one in ids:
                tags = self._require(connection, one).tags
                kept = tuple(tag for tag in dict.fromkeys((*tags, *add)) if tag not in remove)
                self.change(connection, one, {"tags": kept})

    def _check(self, record: Record) -> Record:
        check_record(record, self.limits)
        return record

    def _clean(self, record: Record) -> Record:
        cleaned = self.guard.clean(self._check(record), self.cleans)
        return cleaned if cleaned is record else self._check(cleaned)

    def _require(self, connection: sa.Connection, one: str) -> Record:
        table = schema.records
        query = sa.select(table.c.id).where(table.c.id == one, table.c.deleted.is_(None))
        if not isinstance(one, str) or connection.execute(query).first() is None:
            raise UserError(f"id: record {one!r:.80} does not exist", "id")
        return load(connection, [one])[0]

    def _require_blobs(self) -> Blobs:
        if self.blobs is None:
            cure = "genjax store init --blobs URL says where they lie"
            raise UserError(f"blobs: store {self.place} has no place for bytes: {cure}", "blobs")
        return self.blobs

    def _store_bytes(self, connection: sa.Connection, record: Record) -> Record:
        """Return the record with the hash of its bytes, which are written before its row."""
        payload = getattr(record, "payload", None)
        if not isinstance(payload, Payload):
            return record
        if payload.content is not None:
            digest = self._require_blobs().write(payload.content)
            if payload.blob not in (None, digest):
                raise UserError("payload.blob is not the hash of the bytes", "payload.blob")
            payload = dataclasses.replace(
                payload, content=None, blob=digest, size=len(payload.content)
            )
            return dataclasses.replace(cast(Any, record), payload=payload)
        if payload.blob is not None and not (
            self.access.sees_blob(connection, payload.blob)
            and self._require_blobs().has(payload.blob, payload.size)
        ):
            raise UserError(f"payload.blob {payload.blob} is not stored", "payload.blob")
        return record

    def _insert(self, connection: sa.Connection, records: Sequence[Record], time: int) -> None:
        self.access.check(connection, "add", records)
        rows = [to_rows(record) for record in records]
        insert(connection, schema.records, [shared for shared, _, _ in rows])
        for kind, table in schema.KINDS.items():
            insert(connection, table, [own for shared, own, _ in rows if shared["kind"] == kind])
        insert(connection, schema.links, [link for _, _, links in rows for link in links])
        added = [(row[0], row[1], one.parents) for row, one in zip(rows, records, strict=True)]
        self._note(connection, [record.id for record in records], "add", time=time, rows=added)

    def _note(
        self,
        connection: sa.Connection,
        ids: Sequence[str],
        action: str,
        fields: Row | None = None,
        time: int | None = None,
        rows: Sequence[Rows] | None = None,
    ) -> None:
        """Record who did what in the history and the audit trail, and changes in the outbox."""
        changes = [fields] * len(ids)
        chain.record(
            connection,
            self.user,
            action,
            ids,
            changes=changes,
            time=time,
            rows=rows,
            token=self.access.token,
        )
        follows = "delete" if action == "delete" else "upsert"
        insert(connection, schema.outbox, [{"record": one, "action": follows} for one in ids])


def _read_page(
    connection: sa.Connection, query: Query, size: int, after: str | None
) -> tuple[list[str], list[Record]]:
    ids = find_ids(connection, query, size, after)
    return ids, load(connection, ids)
