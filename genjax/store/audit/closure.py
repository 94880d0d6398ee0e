"""Find all records that have to go with others, and those that only name them.

A record goes with another that it cannot be without, as a response with its prompt; with the
session that it belongs to; and with the last record that it was made from. All other references
are mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.references import Edge, find_edges
from genjax.store.rows import split

# References that a record cannot be without.
BOUND = frozenset({"prompt", "document", "target", "against", "subject", "object"})
LOOSE = ("parents", "parent")  # those by which orphans and later prompts go along
LEARNED = ("dataset", "run", "checkpoint")  # kinds that stay: they say what was learned


@dataclass(frozen=True)
class Closure:
    """Records to erase.

    Attributes:
      ids: ids of the records, in a stable order.
      kinds: number of them by kind.
      dependants: those that were not named, but go with the named ones.
      dangling: references of other records to them, to be mended.
      reasons: for each dependant, the records that it goes along with.
    """

    ids: tuple[str, ...]
    kinds: dict[str, int]
    dependants: tuple[str, ...]
    dangling: tuple[Edge, ...]
    reasons: Mapping[str, Sequence[str]]

    def find_held(self) -> dict[str, list[str]]:
        """Return the named records that dependants cannot be without, with these."""
        held: dict[str, list[str]] = {}
        for dependant in self.dependants:
            seen, level = {dependant}, [dependant]
            while level:
                level = [up for one in level for up in self.reasons.get(one, ()) if up not in seen]
                seen |= set(level)
            for one in sorted(seen - self.reasons.keys()):
                held.setdefault(one, []).append(dependant)
        return held


def find_closure(connection: sa.Connection, named: Iterable[str]) -> Closure:
    """Return the records that go with the named ones, which exist."""
    first = dict.fromkeys(named)
    ids, level = dict(first), list(first)
    edges: dict[Edge, None] = {}
    reasons: dict[str, list[str]] = {}
    while level:
        new = find_edges(connection, level, up=False)
        edges |= dict.fromkeys(new)
        outside = {edge.child for edge in new} - ids.keys()
        kinds = _find_kinds(connection, sorted(outside))
        found = {e.child for e in new if e.child in outside and _goes_along(e, kinds)}
        found |= _find_orphans(connection, sorted(outside - found), ids.keys(), kinds)
        found |= _find_later(connection, new, outside - found)
        for edge in new:
            if edge.child in found and (_goes_along(edge, kinds) or edge.role in LOOSE):
                reasons.setdefault(edge.child, []).append(edge.parent)
        level = sorted(found)
        ids |= dict.fromkeys(level)
    left = tuple(edge for edge in edges if edge.child not in ids)
    counted = Counter(_find_kinds(connection, list(ids)).values())
    return Closure(tuple(ids), dict(counted), tuple(ids)[len(first) :], left, reasons)


def _goes_along(edge: Edge, kinds: dict[str, str]) -> bool:
    kind = kinds.get(edge.child)
    bound = edge.role in BOUND or (edge.role == "session" and kind == "prompt")
    return bound or (edge.role == "run" and kind == "checkpoint")


def _find_orphans(
    connection: sa.Connection, ids: Sequence[str], gone: Iterable[str], kinds: dict[str, str]
) -> set[str]:
    """Return the records all of whose parents are gone: they were made from nothing else."""
    links, erased = schema.links, set(gone)
    parents: dict[str, set[str]] = {}
    for part in split(ids):
        query = sa.select(links.c.child, links.c.parent).where(links.c.child.in_(part))
        for child, parent in connection.execute(query):
            parents.setdefault(child, set()).add(parent)
    return {
        one for one, above in parents.items() if above <= erased and kinds.get(one) not in LEARNED
    }


def _find_later(connection: sa.Connection, new: Sequence[Edge], ids: set[str]) -> set[str]:
    """Return the prompts without a session that follow what is gone: of the same conversation."""
    later = sorted({edge.child for edge in new if edge.role == "parent"} & ids)
    table, found = schema.KINDS["prompt"], set()
    for part in split(later):
        query = sa.select(table.c.id).where(table.c.id.in_(part), table.c.session.is_(None))
        found |= set(connection.execute(query).scalars())
    return found


def _find_kinds(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    table, found = schema.records, dict[str, str]()
    for part in split(ids):
        query = sa.select(table.c.id, table.c.kind).where(table.c.id.in_(part))
        found |= {one: kind for one, kind in connection.execute(query)}
    return found


def find_owned(connection: sa.Connection, user: str) -> list[str]:
    """Return the records of a user: sessions, feedback, and documents that they brought."""
    records, past = schema.records, schema.history
    sessions, feedback = schema.KINDS["session"], schema.KINDS["feedback"]
    person = sa.and_(feedback.c.source_kind == "HUMAN", feedback.c.source_id == user)
    brought = sa.select(past.c.record).where(past.c.user == user, past.c.action == "add")
    queries = (
        sa.select(sessions.c.id).where(sessions.c.user == user),
        sa.select(feedback.c.id).where(sa.or_(feedback.c.user == user, person)),
        sa.select(records.c.id).where(records.c.kind == "document", records.c.id.in_(brought)),
    )
    return sorted({one for query in queries for one in connection.execute(query).scalars()})


def find_learned(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Return the data sets, runs and checkpoints that come from records, with their kinds."""
    found: dict[str, str] = {}
    level = list(ids)
    while level:
        below = sorted({edge.child for edge in find_edges(connection, level, up=False)} - {*ids})
        kinds = _find_kinds(connection, [one for one in below if one not in found])
        level = [one for one, kind in kinds.items() if kind in LEARNED]
        found |= {one: kinds[one] for one in level}
    return found
