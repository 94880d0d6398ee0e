"""Name states of a store: what was in it at one moment, with a fingerprint.

A state is an entry of the history that belongs to no record. Backups and copies keep it with the
history, and nothing that erases records removes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from genjax.errors import UserError, unknown_name
from genjax.store import schema
from genjax.store.followers import find_removed
from genjax.store.formats.plain import write_plain
from genjax.store.limits import check_text
from genjax.store.records import Record
from genjax.store.rows import insert, load, now, to_time
from genjax.store.store import Store

NOBODY = ""  # the id of no record
STATE = "state"  # action of the history's entry
PAGE = 2_000  # records in memory at once


class State(NamedTuple):
    """A named state of a store.

    Attributes:
      name: its name.
      seq: number of the history's entry that names it: earlier changes are in it.
      time: when it was named.
      user: who named it.
      records: number of its records, without deleted ones.
      fingerprint: hash of their ids and contents.
    """

    name: str
    seq: int
    time: datetime
    user: str
    records: int
    fingerprint: str


def tag_state(store: Store, name: str) -> State:
    """Give the present state of a store a name.

    Raises:
      UserError: the name is invalid, or another state has it.
    """
    check_text(name, "state", store.limits.name)
    if not name or name.startswith("-") or name != name.strip():
        raise UserError(f"state must be a name, got {name!r:.80}", "state")
    with store.reading() as connection:  # without keeping writers waiting
        _refuse_known(connection, name)
        seq = _newest(connection)
        hashes = {record.id: hash_content(record) for record in read_visible(connection)}
    with store.writing() as connection:
        _refuse_known(connection, name)
        hashes = _catch_up(connection, hashes, seq)
        changes = {"name": name, "records": len(hashes), "fingerprint": combine(hashes)}
        row = {"record": NOBODY, "user": store.user, "time": now(), "action": STATE}
        insert(connection, schema.history, [row | {"changes": changes}])
        return next(state for state in _read_states(connection) if state.name == name)


def _refuse_known(connection: sa.Connection, name: str) -> None:
    if name in {state.name for state in _read_states(connection)}:
        raise UserError(f"state {name!r} is there already: take another name", "state")


def _newest(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(sa.func.max(schema.outbox.c.seq))).scalar() or 0)


def _catch_up(connection: sa.Connection, hashes: dict[str, str], seq: int) -> dict[str, str]:
    """Return the hashes of all records, reading only those that changed after one change."""
    table, outbox = schema.records, schema.outbox
    visible = set(
        connection.execute(sa.select(table.c.id).where(table.c.deleted.is_(None))).scalars()
    )
    changed = set(
        connection.execute(sa.select(outbox.c.record).where(outbox.c.seq > seq)).scalars()
    )
    if find_removed(connection) > seq:
        changed = visible  # some of these changes are no longer known
    kept = {one: hashes[one] for one in visible & hashes.keys() - changed}
    new = load(connection, sorted(visible - kept.keys()))
    return kept | {record.id: hash_content(record) for record in new}


def list_states(store: Store) -> list[State]:
    """Return the states of a store, oldest first."""
    with store.reading() as connection:
        return _read_states(connection)


def find_state(store: Store, name: str) -> State:
    """Return the state with a name.

    Raises:
      UserError: there is none.
    """
    known = {state.name: state for state in list_states(store)}
    if name not in known:
        if known:
            raise unknown_name("state", name, known)
        cure = f"genjax store tag {store.place} --state NAME"
        raise UserError(f"state {name!r:.80} does not exist, nor does any: {cure}", "state")
    return known[name]


def _read_states(connection: sa.Connection) -> list[State]:
    table = schema.history
    query = sa.select(table).where(table.c.record == NOBODY, table.c.action == STATE)
    return [
        State(row.changes["name"], row.seq, to_time(row.time), row.user, *_counted(row.changes))
        for row in connection.execute(query.order_by(table.c.seq))
    ]


def _counted(changes: dict[str, Any]) -> tuple[int, str]:
    return int(changes["records"]), str(changes["fingerprint"])


def read_visible(connection: sa.Connection) -> Iterator[Record]:
    """Yield all records that are not deleted, in the order of their ids."""
    table, last = schema.records, ""
    query = sa.select(table.c.id).where(table.c.deleted.is_(None)).order_by(table.c.id).limit(PAGE)
    while ids := list(connection.execute(query.where(table.c.id > last)).scalars()):
        yield from load(connection, ids)
        last = ids[-1]


def combine(hashes: Mapping[str, str]) -> str:
    """Return the hash of records' ids and hashes, whatever their order."""
    lines = "".join(f"{one} {hashes[one]}\n" for one in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def hash_content(record: Record) -> str:
    """Return the hash of a record's content, the same from any database."""
    plain = _level(write_plain(record))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _level(value: Any) -> Any:
    """Write whole numbers as integers: PostgreSQL does not keep how they were written."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _level(one) for name, one in value.items()}
    return [_level(one) for one in value] if isinstance(value, list) else value
