"""Read a named state of a store again: the records as they were, undone from the history."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from genjax.data.images.decode import note
from genjax.errors import UserError
from genjax.store import schema
from genjax.store.audit.deeds import note_deed
from genjax.store.growth.dvc import note_past
from genjax.store.growth.states import PAGE, State, combine, find_state, hash_content
from genjax.store.lookups import find_visible
from genjax.store.opening import open_store
from genjax.store.privacy.plan import copy_plan
from genjax.store.records import Record
from genjax.store.rows import (
    Row,
    from_row,
    insert,
    load,
    name_kind,
    split,
    to_number,
    to_rows,
)
from genjax.store.store import Store

FILE = "state.db"
EXPORTS = ("export", "dataset")  # actions that write copies
ERASING = ("redact", "mend")  # actions on records that named an erased one


class Past(NamedTuple):
    """A record as it was, and whether it was deleted then."""

    record: Record
    deleted: bool


class Opened(NamedTuple):
    """A state that can be read.

    Attributes:
      store: a store with the records as they were. Data sets and exports that it notes are noted
        in the store itself, too; other changes are lost.
      path: its file.
      state: the state.
      missing: number of records that were erased since.
      altered: number of changes by which erasing took something out of the records that are left.
    """

    store: Store
    path: Path
    state: State
    missing: int
    altered: int

    @property
    def remark(self) -> str:
        """What is not as it was, in one line; "" if all is."""
        name, said = self.state.name, []
        if self.missing:
            said.append(f"{self.missing:,} of the {self.state.records:,} records were erased since")
        if self.altered:
            said.append(f"{self.altered:,} times something in them was erased")
        return f"state {name} is not whole: {', and '.join(said)}" if said else ""


@contextlib.contextmanager
def open_state(store: Store, name: str) -> Iterator[Opened]:
    """Provide a state of a store as a store of its own, in a temporary file.

    Raises:
      UserError: there is no such state, or its history was changed.
    """
    store.servers.refuse_incomplete("read states")
    store.access.require_whole()  # the past of records is not what a role sees of them
    state = find_state(store, name)
    with tempfile.TemporaryDirectory(prefix="genjax_state_") as folder:
        path = Path(folder) / FILE
        blobs = None if store.blobs is None else store.blobs.url
        plan = copy_plan(store.guard.plan)
        new = open_store(str(path), create=True, blobs=blobs, user=store.user, privacy=plan)
        with new as made:
            with made.writing() as connection:
                note_past(connection, store.place, name, state.fingerprint)
            hashes = _copy(store, made, state)
            fingerprint = combine(hashes)
            missing = state.records - len(hashes)
            altered = _count_altered(store, state)
            same = fingerprint == state.fingerprint
            if missing < 0 or not (missing or altered or same):
                raise UserError(
                    f"state {name!r} cannot be read: its fingerprint is {state.fingerprint:.12}, "
                    f"that of its records {fingerprint:.12}; the history was changed",
                    "state",
                )
            made = dataclasses.replace(made, limits=store.limits)
            try:
                yield Opened(made, path, state, missing, altered)
            finally:
                _pass_on(store, made, name)


def _pass_on(store: Store, made: Store, name: str) -> None:
    """Note in a store what was exported from its past, so that erasing reaches it."""
    table, outbox = schema.audit, schema.outbox
    query = sa.select(table.c.action, table.c.details).order_by(table.c.link)
    with made.reading() as connection:
        rows = connection.execute(query.where(table.c.action.in_(EXPORTS))).all()
        added = load(connection, connection.execute(sa.select(outbox.c.record)).scalars())
    if not rows and not added:
        return
    try:
        url = store.url.render_as_string(hide_password=False)
        with open_store(url, user=store.user) as own:
            with own.reading() as connection:
                kept = [
                    dataclasses.replace(
                        one, parents=tuple(find_visible(connection, list(one.parents)))
                    )
                    for one in added
                ]
            own.add_new(kept)
            for row in rows:
                note_deed(own, row.action, dict(row.details) | {"state": name})
    except UserError as error:
        note(f"the store does not know of this export: {error}")


def _count_altered(store: Store, state: State) -> int:
    past = schema.history
    query = sa.select(sa.func.count()).where(past.c.seq > state.seq, past.c.action.in_(ERASING))
    with store.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _copy(store: Store, target: Store, state: State) -> dict[str, str]:
    """Copy the records of a state; return the hashes of those that were not deleted then."""
    hashes: dict[str, str] = {}
    past = schema.history
    left = [column for column in past.c if column.name != "seq"]
    query = sa.select(*left).where(past.c.seq < state.seq).order_by(past.c.seq)
    with store.reading() as old, target.engine.connect() as opened:
        driver: Any = opened.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")  # what was referred to may be erased since
        with opened.begin():
            for ids in _find_there(old, state.seq):
                found = read_past(old, ids, state.seq)
                hashes |= {
                    one: hash_content(was.record) for one, was in found.items() if not was.deleted
                }
                _insert(opened, found.values(), state)
                for part in split(ids):
                    rows = old.execute(query.where(past.c.record.in_(part))).mappings()
                    insert(opened, past, [dict(row) for row in rows])
    return hashes


def _insert(connection: sa.Connection, found: Any, state: State) -> None:
    rows = [(to_rows(past.record), past.deleted) for past in found]
    hidden = to_number(state.time)
    shared = [row | {"deleted": hidden if gone else None} for (row, _, _), gone in rows]
    insert(connection, schema.records, shared)
    for kind, table in schema.KINDS.items():
        insert(connection, table, [own for (one, own, _), _ in rows if one["kind"] == kind])
    insert(connection, schema.links, [link for (_, _, links), _ in rows for link in links])


def _find_there(connection: sa.Connection, seq: int) -> Iterator[Sequence[str]]:
    """Yield the ids of the records that a state had, as far as they were not erased."""
    past, records, last = schema.history, schema.records, ""
    query = sa.select(records.c.id).join(past, past.c.record == records.c.id)
    query = query.where(past.c.action == "add", past.c.seq < seq)
    query = query.order_by(records.c.id).limit(PAGE)
    while ids := list(connection.execute(query.where(records.c.id > last)).scalars()):
        yield ids
        last = ids[-1]


def read_past(connection: sa.Connection, ids: Sequence[str], seq: int) -> dict[str, Past]:
    """Return the records with these ids as they were before an entry of the history."""
    found: dict[str, Past] = {}
    for part in split(ids):
        later = _read_entries(connection, part)
        hidden = _find_hidden(connection, part)
        for record in load(connection, part):
            entries = later.get(record.id, [])
            if any(entry.action == "add" and entry.seq < seq for entry in entries):
                undone = [entry for entry in entries if entry.seq >= seq]
                found[record.id] = _undo(record, record.id in hidden, undone)
    return found


def _read_entries(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return the history of records, newest first."""
    past, found = schema.history, dict[str, list[Any]]()
    query = sa.select(past).where(past.c.record.in_(ids)).order_by(past.c.seq.desc())
    for row in connection.execute(query):
        found.setdefault(row.record, []).append(row)
    return found


def _find_hidden(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    table = schema.records
    query = sa.select(table.c.id).where(table.c.id.in_(ids), table.c.deleted.is_not(None))
    return set(connection.execute(query).scalars())


def _undo(record: Record, deleted: bool, entries: Sequence[Any]) -> Past:
    """Undo changes of a record, newest first."""
    if not entries:
        return Past(record, deleted)
    shared, own, _ = to_rows(record)
    values: Row = {**shared, **{f"own_{name}": value for name, value in own.items()}}
    parents: Sequence[str] = record.parents
    for entry in entries:
        if entry.action in ("delete", "undelete"):
            deleted = entry.action == "undelete"
        for name, (old, _) in (entry.changes or {}).items():
            if name == "parents":
                parents = old or ()
            else:
                values[name if name in schema.records.c else f"own_{name}"] = old
    values["kind"] = name_kind(record)
    return Past(from_row(values, parents), deleted)
