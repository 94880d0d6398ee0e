"""Copy, back up, restore and check whole stores; backups are tested by reading them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.machine import disk
from genjax.store import schema
from genjax.store.audit.chain import keep_head, read_head
from genjax.store.lookups import find_past_blobs
from genjax.store.opening import open_store
from genjax.store.privacy.damage import find_unreadable, read_digests, sign
from genjax.store.privacy.plan import Plan, copy_plan
from genjax.store.records import REFERS, UNKNOWN, own_fields
from genjax.store.rows import insert
from genjax.store.store import Store

ANALYSED = 1_000  # rows of an index that SQLite samples
BATCH = 5_000  # rows in memory at once
DATABASE, MANIFEST = "records.db", "backup.json"
WATCHED = (schema.requests, schema.alert_rules, schema.alerts)
COPIED = (
    schema.records,
    *schema.KINDS.values(),
    schema.links,
    schema.history,
    schema.audit,
    schema.audit_gone,
    schema.retention,
    *WATCHED,
)


@dataclass(frozen=True)
class Fault:
    """A fault in a store: the record or blob, and what is wrong.

    Attributes:
      stray: whether it is a blob without a record, which ``repair`` removes.
    """

    about: str
    what: str
    stray: bool = False


def copy_store(source: Store, target: Store) -> int:
    """Copy all records with their history and blobs to an empty store; return their number.

    The index of the target still has to follow them.

    Raises:
      UserError: the target has records already, or a blob is missing.
    """
    count = 0
    for store in (source, target):
        store.access.require_all()
    source.servers.refuse_incomplete("copy")
    if source.url == target.url:
        raise UserError(f"target must be another store than {source.place}", "target")
    with source.reading() as old, target.writing() as new:
        for table, what in ((schema.records, "records"), (schema.audit, "an audit trail")):
            if new.execute(sa.select(*table.primary_key).limit(1)).first() is not None:
                raise UserError(f"target {target.place} must be empty: it has {what}", "target")
        _refuse_exposing(source, target)
        _copy_blobs(source, target, old)
        for table in COPIED:
            left = [column for column in table.c if column.name != "seq"]
            query = sa.select(*left).order_by(*table.primary_key)
            for rows in _read_batches(old, query):
                insert(new, table, rows)
                if table is schema.records:
                    count += len(rows)
                    follow = [
                        {"record": row["id"], "action": "upsert"}
                        for row in rows
                        if row["deleted"] is None
                    ]
                    insert(new, schema.outbox, follow)
        keep_head(new, read_head(new))
    return count


def _refuse_exposing(source: Store, target: Store) -> None:
    """Refuse a copy that would write in the clear what the source encrypts."""
    exposed = set(source.guard.plan.encrypted) - set(target.guard.plan.encrypted)
    if exposed:
        cure = f"genjax store init {target.place} --encrypt {' '.join(sorted(exposed))}"
        names = ", ".join(sorted(exposed))
        raise UserError(
            f"target {target.place} must encrypt {names} as the store does: {cure}", "target"
        )


def _read_batches(
    connection: sa.Connection, query: sa.Select[Any]
) -> Iterator[list[dict[str, Any]]]:
    streamed = connection.execution_options(stream_results=True).execute(query)
    for rows in streamed.mappings().partitions(BATCH):
        yield [dict(row) for row in rows]


def _copy_blobs(source: Store, target: Store, connection: sa.Connection) -> None:
    if source.blobs == target.blobs:
        return
    for digest in _list_used(connection):
        if source.blobs is None or target.blobs is None:
            raise UserError("blobs must have a place in both stores: --blobs", "blobs")
        target.blobs.write(source.blobs.read(digest))


def _list_used(connection: sa.Connection) -> list[str]:
    column = schema.records.c.blob
    query = sa.select(column).where(column.is_not(None)).distinct().order_by(column)
    return list(connection.execute(query).scalars())


def hash_store(store: Store) -> dict[str, str]:
    """Return a hash of each table's rows; equal stores have equal hashes in any database."""
    found = {}
    store.access.require_all()
    with store.reading() as connection:
        for table in COPIED:
            hashed = hashlib.sha256()
            columns = sorted((c for c in table.c if c.name != "seq"), key=lambda c: c.name)
            # The order of history is that of each record's own.
            order = (
                ("record", "seq") if table is schema.history else table.primary_key.columns.keys()
            )
            query = sa.select(*columns).order_by(*(table.c[name] for name in order))
            for rows in _read_batches(connection, query):
                for row in rows:
                    hashed.update(json.dumps(row, sort_keys=True).encode() + b"\n")
            found[table.name] = hashed.hexdigest()
    return found


def backup(store: Store, folder: str | Path) -> int:
    """Write a copy to a folder, and compare it with the store; return the number of records.

    Raises:
      UserError: the folder exists, or the copy differs, for example because of a concurrent write.
    """
    place = Path(folder).expanduser()
    if place.exists():
        raise UserError(f"out {place} is there already: take another name, or remove it", "out")
    part = place.with_name(f".{place.name}{disk.PART}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with disk.explain_full_disk("no backup was written", part):
            part.mkdir(parents=True)
            plan = copy_plan(store.guard.plan)
            new = open_store(str(part / DATABASE), create=True, user=store.user, privacy=plan)
            with new as copy:
                count = copy_store(store, copy)
                hashes = hash_store(copy)
                faults = check(copy, fast=True)  # the bytes were compared while copying
            if hashes != hash_store(store) or faults:
                cure = "repeat it while nobody writes"
                raise UserError(f"out {place}: the copy differs from the store: {cure}", "out")
            kept = {"records": count, "hashes": sign(store.guard, hashes)}
            disk.write(part / MANIFEST, json.dumps(kept) + "\n")
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def restore(folder: str | Path, target: Store) -> int:
    """Fill an empty store from a backup; return the number of records.

    Raises:
      UserError: the folder is not a backup or is damaged, or the store is not empty.
    """
    place = check_backup(folder)
    with open_store(str(place / DATABASE), read_only=True) as copy:
        return copy_store(copy, target)


def check_backup(folder: str | Path) -> Path:
    """Check a backup and return its folder.

    Raises:
      UserError: the folder is not a backup, or is damaged.
    """
    place = Path(folder).expanduser()
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        hashes: Mapping[str, str] = manifest["hashes"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"backup {place} is no backup: {MANIFEST} is missing", "backup") from None
    with open_store(str(place / DATABASE), read_only=True) as copy:
        if sign(copy.guard, hash_store(copy)) != hashes or check(copy):
            raise UserError(f"backup {place} is damaged: its records are others", "backup")
    return place


def read_backup_plan(place: Path) -> Plan:
    """Return the protection of the store in a backup."""
    with open_store(str(place / DATABASE), read_only=True) as copy:
        return copy.guard.plan


def check(store: Store, repair: bool = False, fast: bool = False) -> list[Fault]:
    """Find the faults of a store: rows without their counterparts, and blobs that are missing,
    damaged or stray.

    Args:
      store: the store.
      repair: whether to remove stray blobs. Files of an active writer are not stray: it holds its
        turn until their rows exist.
      fast: whether to compare only the sizes of blobs, not their contents.
    """
    store.access.require_all()
    with store.writing() if repair else store.reading() as connection:
        faults = [
            *_check_rows(connection),
            *(Fault(about, what) for about, what in find_unreadable(connection)),
            *_check_blobs(store, connection, fast),
        ]
        if repair and store.blobs is not None:
            for fault in faults:
                if fault.stray:
                    store.blobs.remove_file(fault.about)
            faults = [fault for fault in faults if not fault.stray]
    return faults


def analyse(store: Store) -> None:
    """Update the database's statistics, so that it plans queries well."""
    store.access.require_all()
    with store.writing() as connection:
        if not store.is_postgres:
            connection.exec_driver_sql(f"PRAGMA analysis_limit = {ANALYSED}")
        connection.exec_driver_sql("ANALYZE")


def _check_rows(connection: sa.Connection) -> Iterator[Fault]:
    records = schema.records
    if connection.dialect.name == "sqlite":
        for (said,) in connection.exec_driver_sql("PRAGMA integrity_check(20)"):
            if said != "ok":
                yield Fault("database", said)
    for kind, table in schema.KINDS.items():
        joined = records.outerjoin(table, table.c.id == records.c.id)
        lonely = sa.select(records.c.id).select_from(joined)
        lonely = lonely.where(records.c.kind == kind, table.c.id.is_(None))
        yield from (Fault(one, f"{kind} without its row") for (one,) in connection.execute(lonely))
        columns = [table.c[f.name] for f in own_fields(kind) if REFERS in f.metadata]
        for column in columns:
            yield from _find_missing(connection, table.c.id, column)
    yield from _find_missing(connection, schema.links.c.child, schema.links.c.parent)
    yield from _find_missing(connection, records.c.id, records.c.generator)


def _find_missing(
    connection: sa.Connection, own: sa.Column[str], column: sa.Column[str]
) -> Iterator[Fault]:
    there = schema.records.alias()
    joined = own.table.outerjoin(there, there.c.id == column)
    query = sa.select(own, column).select_from(joined)
    query = query.where(column.is_not(None), column != UNKNOWN, there.c.id.is_(None))
    for one, other in connection.execute(query):
        yield Fault(one, f"its {column.name} {other} is missing")


def _check_blobs(store: Store, connection: sa.Connection, fast: bool) -> Iterator[Fault]:
    used = read_digests(connection)
    there = set(store.blobs.list()) if store.blobs is not None else set()
    for digest, size in sorted(used.items()):
        name = digest if store.blobs is None else store.blobs.name(digest)
        if name not in there:
            yield Fault(digest, "blob is missing")
        elif store.blobs is not None and not store.blobs.has(digest, size):
            yield Fault(digest, "blob is damaged: it has another size")
        elif store.blobs is not None and not fast and not store.blobs.is_whole(digest):
            yield Fault(digest, "blob is damaged: its bytes have another hash")
    known = {*used, *find_past_blobs(connection)}
    named = known if store.blobs is None else set(map(store.blobs.name, known))
    for name in sorted(there - named):
        yield Fault(name, "blob that no record has: check --repair removes it", stray=True)
