"""Erase records with their history: of the audit trail remains that something was erased."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.serial.json_text import Json
from genjax.store import schema
from genjax.store.audit import chain
from genjax.store.audit.forms import hash_item, read_rows
from genjax.store.lookups import find_known
from genjax.store.privacy.damage import read_digests
from genjax.store.records import UNKNOWN
from genjax.store.references import find_edges, refer_columns
from genjax.store.rows import Row, insert, split

WORDS = -1  # the position of a link's own words


def refuse_needed(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Refuse to erase records that others name.

    Raises:
      UserError: another record names one of them.
    """
    erased = set(ids)
    for edge in find_edges(connection, ids, up=False, whole=True):
        if edge.child not in erased:
            cure = "erase that first, or all of it with: genjax store forget"
            child = edge.child if find_known(connection, [edge.child], whole=False) else "another"
            raise UserError(f"id: {edge.parent} is the {edge.role} of {child}: {cure}", "id")


def erase_rows(
    connection: sa.Connection,
    ids: Sequence[str],
    user: str,
    *,
    action: str = "erase",
    names: Sequence[str] | None = None,
) -> set[str]:
    """Remove the rows of records, their history, and what the audit trail says of them.

    References of other records to them must be mended before, see ``mend``.

    Args:
      connection: a connection of ``Store.writing``.
      ids: ids of the records.
      user: who erases.
      action: action of the link.
      names: names of people whose deeds are forgotten, too, and the ids wherever they are named:
        in the whole history and trail, which takes longer; None leaves that out.

    Returns:
      the hashes of blobs that the records had.
    """
    blobs = _find_blobs(connection, ids)
    gone = _find_items(connection, set(ids))
    if names is not None:
        gone += _cut_items(connection, set(ids), names)
        gone += _find_words(connection, set(ids), names)
    gone.sort(key=lambda row: (row["link"], row["position"]))
    records = schema.records
    for part in split(ids):
        links = schema.links
        connection.execute(links.delete().where(links.c.child.in_(part)))
        for own in schema.KINDS.values():
            connection.execute(own.delete().where(own.c.id.in_(part)))
        for table in (schema.history, schema.outbox):
            connection.execute(table.delete().where(table.c.record.in_(part)))
    for part in split(ids):
        asked = schema.requests  # which stay as numbers
        connection.execute(asked.update().where(asked.c.record.in_(part)).values(record=None))
        connection.execute(records.delete().where(records.c.id.in_(part)))
    insert(connection, schema.outbox, [{"record": i, "action": "delete"} for i in ids])
    _blank(connection, [row["link"] for row in gone if row["position"] == WORDS], names or ())
    touched = sorted({row.pop("record") for row in gone} - {*ids, ""})
    counted: dict[str, Json] = {"records": len(ids)}
    hashes = [row["hash"] for row in gone]
    link = chain.add_link(connection, action, user, hashes, details=counted)
    insert(connection, schema.audit_gone, [row | {"erasure": link} for row in gone])
    chain.record(connection, user, "redact", touched)  # those whose past named what is gone
    return blobs


def mend(connection: sa.Connection, ids: Sequence[str], user: str) -> list[str]:
    """Take away the references of other records to these, and return the changed ones.

    The history says that they changed, but not what they were.
    """
    erased, changes = set(ids), dict[str, Row]()
    for part in split(ids):
        links = schema.links
        query = sa.select(links.c.child).where(links.c.parent.in_(part))
        for (child,) in connection.execute(query.distinct()):
            if child not in erased:
                changes.setdefault(child, {})["parents"] = [[], []]
        connection.execute(links.delete().where(links.c.parent.in_(part)))
        for role, column in refer_columns():
            own, new = column.table.c.id, UNKNOWN if role == "generator" else None
            named = column.in_(part)
            found = [one for (one,) in connection.execute(sa.select(own).where(named))]
            outside = [one for one in found if one not in erased]
            for one in outside:
                changes.setdefault(one, {})[role] = [new, new]
            for some in split(outside):
                change = column.table.update().where(own.in_(some), named)
                connection.execute(change.values({column.name: new}))
    touched = sorted(changes)
    orphans = [one for one in touched if "parents" in changes[one]]
    for one, (_, _, parents) in read_rows(connection, orphans).items():
        changes[one]["parents"] = [parents, parents]
    chain.record(connection, user, "mend", touched, changes=[changes[one] for one in touched])
    insert(connection, schema.outbox, [{"record": one, "action": "upsert"} for one in touched])
    return touched


def scrub_raters(connection: sa.Connection, names: Sequence[str], user: str) -> None:
    """Take the names of people out of the counts of raters in the manifests of data sets."""
    table = schema.KINDS["dataset"]
    query = sa.select(table.c.id, table.c.manifest).where(table.c.manifest.is_not(None))
    touched = []
    for one, manifest in connection.execute(query).all() if names else ():
        raters = manifest.get("raters")
        if not isinstance(raters, dict) or not any(_is_of(rater, names) for rater in raters):
            continue
        counted: dict[str, int] = {}
        for rater, count in raters.items():
            kind = rater.partition(" ")[0]
            known = f"{kind} {chain.ERASED}" if _is_of(rater, names) else rater
            counted[known] = counted.get(known, 0) + count
        new = dict(manifest) | {"raters": counted}
        connection.execute(table.update().where(table.c.id == one).values(manifest=new))
        touched.append(one)
    chain.record(connection, user, "redact", touched)


def _is_of(rater: str, names: Sequence[str]) -> bool:
    return rater.partition(" ")[2] in names


def _find_blobs(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for part in split(ids):
        found |= read_digests(connection, part).keys()
    return found


def _find_items(connection: sa.Connection, ids: set[str]) -> list[Row]:
    """Return the hashes of the history of records."""
    table, found = schema.history, []
    for part in split(sorted(ids)):
        query = sa.select(table).where(table.c.record.in_(part), table.c.link.is_not(None))
        rows = connection.execute(query).mappings()
        found += [_make_gone(row, "") for row in rows]
    return found


def _cut_items(connection: sa.Connection, ids: set[str], names: Sequence[str]) -> list[Row]:
    """Remove the history of other records that holds an id or name; return the hashes."""
    table, secrets = schema.history, ids | set(names)
    query = sa.select(table).where(table.c.changes.is_not(None))
    found: list[Row] = []
    gone: list[int] = []
    for row in connection.execute(query).mappings():
        if row["record"] not in ids and not secrets.isdisjoint(_texts(row["changes"])):
            gone.append(row["seq"])
            if row["link"] is not None:
                found.append(_make_gone(row, row["record"]))
    for one in gone:
        connection.execute(table.delete().where(table.c.seq == one))
    return found


def _make_gone(row: sa.RowMapping, record: str) -> Row:
    place = {"link": row["link"], "position": row["position"]}
    return place | {"hash": hash_item(row), "record": record}


def _find_words(connection: sa.Connection, ids: set[str], names: Sequence[str]) -> list[Row]:
    """Return the hashes of the words of links that name somebody who is forgotten."""
    table = schema.audit
    query = sa.select(table).where(table.c.salt.is_not(None)).order_by(table.c.link)
    if not names:
        query = query.where(table.c.details.is_not(None))
    named = [re.compile(rf"(?<!\w){re.escape(name)}(?!\w)") for name in names if name]
    found = []
    for row in connection.execute(query).mappings():
        said = list(_texts(row["details"]))
        mine = row["user"] in names or row["token"] in names or not ids.isdisjoint(said)
        if mine or any(name.search(text) for name in named for text in said):
            words = {"link": row["link"], "position": WORDS}
            found.append(words | {"hash": row["content"], "record": ""})
    return found


def _texts(value: Json) -> Iterator[str]:
    """Yield all texts within JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _blank(connection: sa.Connection, links: Sequence[int], names: Sequence[str]) -> None:
    table, past = schema.audit, schema.history
    nothing = dict.fromkeys(("user", "token", "details", "salt"))
    for one in links:
        connection.execute(table.update().where(table.c.link == one).values(nothing))
        own = past.c.link == one
        connection.execute(past.update().where(own).values(user=chain.ERASED))
    for name in names:  # also of before there was a trail
        for known in schema.metadata.tables.values():
            if "user" not in known.c or known is schema.audit:
                continue
            own = known.c["user"] == name
            if known.name == "tokens":
                connection.execute(known.delete().where(own))
            else:
                left = None if known.c["user"].nullable else chain.ERASED
                connection.execute(known.update().where(own).values(user=left))
