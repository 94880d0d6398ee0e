"""Follow the relations of a store from the entities that a question names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.privacy.columns import is_sealed
from genjax.store.records import Wanted
from genjax.store.rows import split
from genjax.store.store import Store

SHORTEST = 2  # the fewest characters in a name
MOST = 500  # the most records that one step follows


@dataclass(frozen=True)
class Neighbours:
    """The records near the entities that a question names.

    Attributes:
      named: the names of the entities in the question.
      names: the names of the entities near them.
      chunks: the ids of the chunks that these entities are related to or were made from, the
        nearest first.
    """

    named: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    chunks: tuple[str, ...] = ()


def find_neighbours(
    store: Store, question: str, steps: int = 2, origin: Wanted = "real"
) -> Neighbours:
    """Follow relations in both directions from the entities that a question names.

    Args:
      store: the store of the entities.
      question: the question.
      steps: the number of relations to follow.
      origin: the origin of entities and relations.
    """
    with store.reading() as connection:
        named = _find_named(connection, question, origin)
        seen = dict(named)  # the names of entities, by id
        chunks: dict[str, None] = dict.fromkeys(_find_parents(connection, list(named)))
        level = list(named)
        for _ in range(steps):
            edges = _find_relations(connection, level, origin)
            around = [one for edge in edges for one in (edge[1], edge[2]) if one not in seen]
            kinds = _find_kinds(connection, list(dict.fromkeys(around)))
            chunks |= dict.fromkeys(one for one, (kind, _) in kinds.items() if kind == "chunk")
            chunks |= dict.fromkeys(_find_parents(connection, [edge[0] for edge in edges]))
            level = [one for one, (kind, _) in kinds.items() if kind == "entity"][:MOST]
            chunks |= dict.fromkeys(_find_parents(connection, level))
            seen |= {one: kinds[one][1] for one in level}
    names = tuple(name for one, name in seen.items() if one not in named)
    return Neighbours(tuple(named.values()), names, tuple(chunks))


def _find_named(connection: sa.Connection, question: str, origin: Wanted) -> dict[str, str]:
    """Return the names of the entities that occur in the question in any case, by id."""
    table, records = schema.KINDS["entity"], schema.records
    postgres = connection.dialect.name == "postgresql"
    find = sa.func.strpos if postgres else sa.func.instr
    lowered, folded = sa.func.lower(table.c.name), question.lower()
    within = sa.or_(
        find(sa.literal(folded, sa.Text), lowered) > 0,
        find(sa.literal(question, sa.Text), table.c.name) > 0,
    )
    query = sa.select(table.c.id, table.c.name).join(records, records.c.id == table.c.id)
    query = query.where(records.c.deleted.is_(None)).order_by(table.c.id)
    if origin != "any":
        query = query.where(records.c.origin == origin)
    if not is_sealed(connection, table.c.name):
        query = query.where(within, sa.func.length(table.c.name) >= SHORTEST).limit(MOST)
    named: dict[str, str] = {}
    for one, name in connection.execute(query):  # encrypted names are all read and compared here
        if len(name) >= SHORTEST and len(named) < MOST and _is_named(name, question):
            named[one] = name
    return named


def _is_named(name: str, question: str) -> bool:
    """Return whether a name occurs in a question as whole words."""
    pattern = rf"(?<!\w){re.escape(name.casefold())}(?:['’]?s)?(?!\w)"
    return re.search(pattern, question.casefold()) is not None


def _find_relations(
    connection: sa.Connection, ids: Sequence[str], origin: Wanted
) -> list[tuple[str, str, str]]:
    """Return the id, subject and object of each relation of records."""
    table, records = schema.KINDS["relation"], schema.records
    found: list[tuple[str, str, str]] = []
    for part in split(ids):
        query = sa.select(table.c.id, table.c.subject, table.c.object)
        query = query.join(records, records.c.id == table.c.id).where(
            sa.or_(table.c.subject.in_(part), table.c.object.in_(part)),
            records.c.deleted.is_(None),
        )
        if origin != "any":
            query = query.where(records.c.origin == origin)
        rows = connection.execute(query.order_by(table.c.id).limit(MOST))
        found += [(row[0], row[1], row[2]) for row in rows]
    return found


def _find_kinds(connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the kind of each visible record and its name, "" unless it is an entity, by id."""
    records, entities = schema.records, schema.KINDS["entity"]
    found: dict[str, tuple[str, str]] = {}
    for part in split(ids):
        query = sa.select(records.c.id, records.c.kind, entities.c.name)
        query = query.select_from(records.outerjoin(entities, entities.c.id == records.c.id))
        query = query.where(records.c.id.in_(part), records.c.deleted.is_(None))
        rows = connection.execute(query.order_by(records.c.id))
        found |= {one: (kind, name or "") for one, kind, name in rows}
    return found


def _find_parents(connection: sa.Connection, ids: Sequence[str]) -> list[str]:
    """Return the ids of the chunks that records were made from."""
    links, chunks = schema.links, schema.KINDS["chunk"]
    found: list[str] = []
    for part in split(ids):
        query = sa.select(links.c.parent).join(chunks, chunks.c.id == links.c.parent)
        query = query.where(links.c.child.in_(part)).order_by(links.c.child, links.c.position)
        found += connection.execute(query.limit(MOST)).scalars()
    return found
