"""The audit trail: each link holds the hash of the link before it, and of what it records.

A link holds who did what and when. What it did to records stands in the rows of the history that
name the link: each has the record's hash before and after. The link holds the hash of their hashes,
and of its own words, so that both can be erased and the chain remains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from genjax.serial.json_text import Json
from genjax.store import schema
from genjax.store.access.views import lift
from genjax.store.audit.forms import (
    ENCODER,
    hash_item,
    hash_row,
    hash_text,
    make_salts,
    read_rows,
    settle,
)
from genjax.store.privacy.columns import find_guard
from genjax.store.rows import Row, insert, now, split

HEAD = "audit head"  # the setting that repeats the newest link
NOBODY = ""  # the id of no record, in rows of the history that are about the whole store
ADOPT = "adopt"  # the action of links over what is older than the audit trail
ERASED = "erased"  # in place of a forgotten user
Rows = tuple[Mapping[str, Any], Row, Sequence[str]]  # shared, own, and parents


@dataclass(frozen=True)
class Head:
    """The newest link: its number, hash, and time in microseconds; 0 and "" if there is none."""

    link: int = 0
    hash: str = ""
    time: int = 0


def read_head(connection: sa.Connection) -> Head:
    """Return the newest link."""
    table = schema.audit
    query = sa.select(table.c.link, table.c.hash, table.c.time).order_by(table.c.link.desc())
    with lift(connection):
        row = connection.execute(query.limit(1)).first()
    return Head() if row is None else Head(row.link, row.hash, row.time)


def note(
    connection: sa.Connection,
    action: str,
    user: str,
    details: Mapping[str, Json] | None = None,
    *,
    token: str | None = None,
) -> int:
    """Add a link for an action that changes no record, such as an export or a change of roles.

    The link is written with the transaction of the connection, which must be one that writes.

    Args:
      connection: a connection of ``Store.writing``.
      action: a verb, such as "export".
      user: who acts.
      details: what was done; names of people in it are erased when they are forgotten.
      token: name of the token that was used; None for none.

    Returns:
      the number of the link.
    """
    return add_link(connection, action, user, details=details, token=token)


def add_link(
    connection: sa.Connection,
    action: str,
    user: str,
    leaves: Sequence[str] = (),
    *,
    details: Mapping[str, Json] | None = None,
    token: str | None = None,
    time: int | None = None,
) -> int:
    """Add a link over the hashes of what it did; see ``note``."""
    head = read_head(connection)
    user = find_guard(connection.dialect).name_writer(user)
    (salt,) = make_salts(1)
    row: Row = {
        "link": head.link + 1,
        "time": now() if time is None else time,
        "action": action,
        "user": user,
        "token": token,
        "details": None if details is None else dict(details),
        "salt": salt,
        "count": len(leaves),
        "items": hash_items(leaves),
        "previous": head.hash,
    }
    # The clock is recorded as it was, and the order of the links does not depend on it.
    row["behind"] = max(head.time - row["time"], 0)
    row["content"] = hash_content(row)
    row["hash"] = hash_link(row)
    insert(connection, schema.audit, [row])
    keep_head(connection, Head(row["link"], row["hash"], row["time"]))
    return int(row["link"])


def keep_head(connection: sa.Connection, head: Head) -> None:
    """Repeat the newest link in the settings, so that links cut off the end are missed."""
    table, value = schema.settings, f"{head.link} {head.hash}"
    changed = connection.execute(table.update().where(table.c.name == HEAD).values(value=value))
    if not changed.rowcount:
        insert(connection, table, [{"name": HEAD, "value": value}])


def hash_items(leaves: Sequence[str]) -> str:
    """Return the hash of the hashes that a link is over."""
    return hash_text("".join(leaves))


def hash_content(row: Mapping[str, Any] | sa.RowMapping) -> str:
    """Return the hash of who acted and the details, keyed by the link's salt."""
    form = (row["user"], row["token"], settle(row["details"]))
    return hash_text(ENCODER.encode(form), row["salt"])


def hash_link(row: Mapping[str, Any] | sa.RowMapping) -> str:
    """Return the hash of a link."""
    names = ("link", "time", "behind", "action", "count", "items", "content", "previous")
    return hash_text(ENCODER.encode([row[name] for name in names]))


def record(
    connection: sa.Connection,
    user: str,
    action: str,
    ids: Sequence[str],
    *,
    changes: Sequence[Row | None] | None = None,
    time: int | None = None,
    rows: Sequence[Rows] | None = None,
    token: str | None = None,
) -> None:
    """Write what was done to records to the history, and a link over it.

    Args:
      connection: a connection of ``Store.writing``.
      user: who acts.
      action: add, update, delete, undelete and the like.
      ids: ids of the records, which have their new values already.
      changes: for each the old and new values of the changed fields; None for none.
      time: in microseconds; None for now.
      rows: for each record its rows, to save reading them; None reads them.
      token: name of the token that was used; None for none.
    """
    if ids:
        past = link_rows(
            connection, user, action, ids, changes=changes, time=time, rows=rows, token=token
        )
        insert(connection, schema.history, past)


def link_rows(
    connection: sa.Connection,
    user: str,
    action: str,
    ids: Sequence[str],
    *,
    changes: Sequence[Row | None] | None = None,
    time: int | None = None,
    rows: Sequence[Rows] | None = None,
    token: str | None = None,
) -> list[Row]:
    """Write a link, and return the rows of the history below it; see ``record``."""
    moment = now() if time is None else time
    if rows is None:
        with lift(connection):
            there = read_rows(connection, ids)
        rows = [there.get(one, ({"id": one}, {}, [])) for one in ids]
    salts = make_salts(len(ids))
    with lift(connection):
        before = {} if action == "add" else read_states(connection, ids)
    past: list[Row] = []
    for number, (one, salt, (shared, own, parents)) in enumerate(
        zip(ids, salts, rows, strict=True)
    ):
        past.append(
            {
                "record": one,
                "user": user,
                "time": moment,
                "action": action,
                "changes": None if changes is None else changes[number],
                "position": number,
                "salt": salt,
                "before": before.get(one),
                "after": hash_row(shared, own, parents, salt),
            }
        )
    leaves = [hash_item(row) for row in past]
    link = add_link(connection, action, user, leaves, time=moment, token=token)
    for row in past:
        row["link"] = link
    return past


def read_states(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the newest hash of each record, by id."""
    table, found = schema.history, {}
    for part in split(ids):
        query = sa.select(table.c.record, table.c.after).where(table.c.record.in_(part))
        query = query.order_by(table.c.link, table.c.position)
        for one, after in connection.execute(query):
            found[one] = after
    return found


def adopt(connection: sa.Connection, user: str) -> int:
    """Put records of before there was an audit trail under links; count them.

    Their history comes under the same links, so that it cannot change from now on.
    """
    records, past = schema.records, schema.history
    linked = sa.select(past.c.record).where(past.c.link.is_not(None))
    query = sa.select(records.c.id).where(records.c.id.not_in(linked)).order_by(records.c.id)
    ids = list(connection.execute(query).scalars())
    for part in split(ids):
        moment = now()
        old = sa.select(past).where(past.c.record.in_(part)).order_by(past.c.seq)
        known = [dict(row) for row in connection.execute(old).mappings()]
        rows = read_rows(connection, part)
        salts = make_salts(len(known) + len(part))
        for number, row in enumerate(known):
            row |= {"position": number, "salt": salts[number]}
        made: list[Row] = [
            {
                "record": one,
                "user": user,
                "time": moment,
                "action": ADOPT,
                "changes": None,
                "position": len(known) + number,
                "salt": salt,
                "before": None,
                "after": hash_row(*rows[one], salt),
            }
            for number, (one, salt) in enumerate(zip(part, salts[len(known) :], strict=True))
        ]
        leaves = [hash_item(row) for row in (*known, *made)]
        link = add_link(connection, ADOPT, user, leaves, time=moment)
        for row in known:
            own = past.update().where(past.c.seq == row["seq"])
            kept = {"link": link, "position": row["position"], "salt": row["salt"]}
            connection.execute(own.values(kept))
        insert(connection, past, [row | {"link": link} for row in made])
    return len(ids)
