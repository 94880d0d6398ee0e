"""Verify the audit trail: that its links fit each other, the history, and the records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.audit.chain import (
    ADOPT,
    ERASED,
    HEAD,
    hash_content,
    hash_items,
    hash_link,
)
from genjax.store.audit.erasing import WORDS
from genjax.store.audit.forms import hash_item, hash_row, read_rows
from genjax.store.rows import split
from genjax.store.store import Store

BATCH = 5_000  # rows in memory at once


@dataclass(frozen=True, order=True)
class Flaw:
    """What does not fit.

    Attributes:
      link: number of the link that shows it.
      what: what is wrong.
    """

    link: int
    what: str


@dataclass(frozen=True)
class Verified:
    """The result of ``verify``.

    Attributes:
      links: number of links.
      records: number of records that are as their last link left them.
      flaws: what does not fit, the first bad link first.
      jumps: links that were written when the clock had gone back, and by how many microseconds.
    """

    links: int
    records: int
    flaws: tuple[Flaw, ...]
    jumps: tuple[tuple[int, int], ...] = ()


def verify(store: Store) -> Verified:
    """Compare all links with each other, the history and the records."""
    with store.reading() as connection:
        return compare(connection)


def compare(connection: sa.Connection) -> Verified:
    """Verify the trail as a transaction sees it."""
    walk = _Walk(connection)
    walk.run()
    compared = list(_check_records(connection, walk.last))
    flaws = {*walk.flaws, *(one for one in compared if one is not None)}
    whole = sum(one is None for one in compared)
    return Verified(walk.last, whole, tuple(sorted(flaws)), tuple(walk.jumps))


class _Walk:
    """Walks along the links once, with the rows of the history and the erased hashes beside."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self.last = 0
        self.jumps: list[tuple[int, int]] = []
        self.flaws: list[Flaw] = []
        self._past = _Beside(connection, schema.history, self.flaws)
        self._gone = _Beside(connection, schema.audit_gone, self.flaws)
        self._erased: dict[int, list[tuple[int, int, str]]] = {}  # by the link that erased it
        self._erasures: dict[int, tuple[str, int]] = {}  # links without rows of the history

    def run(self) -> None:
        """Compare all links."""
        table = schema.audit
        hash_, time = "", 0
        for row in _stream(self._connection, sa.select(table).order_by(table.c.link)):
            link = row["link"]
            if link != self.last + 1:
                self._add(self.last + 1, "is missing")
            if row["previous"] != hash_:
                self._add(link, "does not follow the link before it")
            if row["hash"] != hash_link(row):
                self._add(link, "was changed")
            if row["behind"] != max(time - row["time"], 0):
                self._add(link, "has another time than it says")
            if row["behind"]:
                self.jumps.append((link, row["behind"]))
            self._check_items(row)
            self.last, hash_, time = link, row["hash"], row["time"]
        self._past.take(None)
        self._gone.take(None)
        self._check_erasures()
        self._check_head(hash_)

    def _add(self, link: int, what: str) -> None:
        self.flaws.append(Flaw(link, f"link {link} {what}"))

    def _check_items(self, row: sa.RowMapping) -> None:
        link = row["link"]
        gone = {one["position"]: one for one in self._gone.take(link)}
        for one in gone.values():
            place = (link, one["position"], one["hash"])
            self._erased.setdefault(one["erasure"], []).append(place)
        words = gone.pop(WORDS, None)
        if words is not None:
            left = [row[name] for name in ("user", "token", "details", "salt")]
            if any(one is not None for one in left) or words["hash"] != row["content"]:
                self._add(link, "has words, though they were erased")
        elif row["salt"] is None or row["content"] != hash_content(row):
            self._add(link, "has other words than it was written with")
        leaves = {position: str(one["hash"]) for position, one in gone.items()}
        self._check_past(row, leaves, ERASED if words is not None else row["user"])
        if not leaves and row["count"]:
            self._erasures[link] = row["items"], row["count"]
            return
        whole = sorted(leaves) == list(range(row["count"]))
        if not whole or hash_items([leaves[place] for place in sorted(leaves)]) != row["items"]:
            self._add(link, "has other rows in the history than it was written with")

    def _check_past(self, row: sa.RowMapping, leaves: dict[int, str], user: str) -> None:
        """Add the hashes of a link's rows of the history, which must name it as it is."""
        for one in self._past.take(row["link"]):
            twice = one["position"] in leaves
            leaves[one["position"]] = "" if twice or one["salt"] is None else hash_item(one)
            if row["action"] == ADOPT:  # rows of an older history
                continue
            said = (one["user"], one["action"], one["time"])
            if said != (user, row["action"], row["time"]):
                self._add(row["link"], "has another user, action or time in the history")

    def _check_erasures(self) -> None:
        """Compare what is gone with the links that erased it."""
        for link, places in self._erased.items():
            hashes = [digest for _, _, digest in sorted(places)]
            first = min(places)[0]
            late = max(places)[0] >= link
            if late or self._erasures.pop(link, None) != (hash_items(hashes), len(hashes)):
                self._add(first, f"lacks what link {link} says it did not erase")
        for link in self._erasures:
            self._add(link, "lacks its rows in the history")

    def _check_head(self, hash_: str) -> None:
        table = schema.settings
        said = self._connection.execute(
            sa.select(table.c.value).where(table.c.name == HEAD)
        ).scalar()
        if (said is not None or self.last) and said != f"{self.last} {hash_}":
            newest = str(said).partition(" ")[0]
            end = int(newest) if newest.isdecimal() else self.last
            self._add(min(end, self.last) + (end != self.last), f"is not the newest, {end} was")


class _Beside:
    """The rows of a table in the order of their links; rows without a link are flaws."""

    def __init__(self, connection: sa.Connection, table: sa.Table, flaws: list[Flaw]) -> None:
        query = sa.select(table).order_by(table.c.link.is_not(None), table.c.link, table.c.position)
        self._rows = _stream(connection, query)
        self._next = next(self._rows, None)
        self._name, self._flaws = table.name, flaws

    def take(self, link: int | None) -> list[sa.RowMapping]:
        """Return the rows of a link, or with None report those of all links after the last."""
        found = []
        while (row := self._next) is not None and (
            link is None or row["link"] is None or row["link"] <= link
        ):
            at = row["link"]
            if at is not None and at == link:
                found.append(row)
            else:
                self._flaws.append(Flaw(at or 0, f"{self._name} has rows of link {at}, not there"))
            self._next = next(self._rows, None)
        return found


def _stream(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[sa.RowMapping]:
    result = connection.execution_options(stream_results=True).execute(query)
    for rows in result.mappings().partitions(BATCH):
        yield from rows


def _check_records(connection: sa.Connection, last: int) -> Iterator[Flaw | None]:
    """Compare records with the hashes of their last change: None for one that fits."""
    records, past = schema.records, schema.history
    ids = connection.execute(sa.select(records.c.id).order_by(records.c.id)).scalars().all()
    for part in split(ids):
        query = sa.select(past.c.record, past.c.link, past.c.salt, past.c.after)
        query = query.where(past.c.record.in_(part)).order_by(past.c.link, past.c.position)
        states = {row.record: row for row in connection.execute(query) if row.link is not None}
        rows = read_rows(connection, part)
        for one in part:
            state = states.get(one)
            if state is None:
                yield Flaw(last, f"record {one} was added without a link")
            elif state.salt is None or hash_row(*rows[one], state.salt) != state.after:
                yield Flaw(state.link, f"record {one} is not as link {state.link} left it")
            else:
                yield None
    lost = past.outerjoin(records, records.c.id == past.c.record)
    newest = sa.func.coalesce(sa.func.max(past.c.link), 0).label("link")
    query = sa.select(past.c.record, newest).select_from(lost)
    for row in connection.execute(query.where(records.c.id.is_(None)).group_by(past.c.record)):
        yield Flaw(row.link, f"record {row.record} is missing, which link {row.link} left there")
    for kind, table in schema.KINDS.items():
        both = sa.select(records.c.id).join(table, table.c.id == records.c.id)
        for (one,) in connection.execute(both.where(records.c.kind != kind)):
            yield Flaw(last, f"record {one} has a row of kind {kind}, too")
