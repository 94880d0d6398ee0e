"""Lists show cards, which are read without the full records, however long their texts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.lookups import find_ids
from genjax.store.query import Query
from genjax.store.rows import split, to_time
from genjax.store.store import Store

CUT = 400  # characters of a text in a list
PAGE = 50  # records of a list


@dataclass(frozen=True)
class Score:
    """Feedback on a record under one name.

    Attributes:
      name: name of the feedback.
      count: number of judgements.
      mean: mean of their values; None if they have no values.
      label: one of their labels; None if they have no labels.
    """

    name: str
    count: int
    mean: float | None
    label: str | None


@dataclass(frozen=True)
class Card:
    """A record in a list.

    Attributes:
      id: id of the record.
      kind: kind of the record.
      origin: origin of the record, "real" or "synthetic".
      time: time of the record.
      tags: tags of the record.
      text: start of the record's text.
      length: length of the whole text in characters.
      blob: hash of the record's bytes.
      media_type: media type of the bytes.
      name: name of the record or of its run.
      asked: start of the prompt that the record answers.
      scores: feedback on the record.
    """

    id: str
    kind: str
    origin: str
    time: datetime
    tags: tuple[str, ...]
    text: str
    length: int
    blob: str | None
    media_type: str | None
    name: str = ""
    asked: str = ""
    scores: tuple[Score, ...] = ()

    @property
    def is_cut(self) -> bool:
        """Return whether the text is cut."""
        return self.length > len(self.text)

    @property
    def is_image(self) -> bool:
        """Return whether the record's bytes are a picture."""
        return self.blob is not None and (self.media_type or "").startswith("image/")


@dataclass(frozen=True)
class Listing:
    """A page of records; ``after`` is where the next page starts, None at the end."""

    cards: tuple[Card, ...]
    after: str | None


def read_page(store: Store, query: Query, after: str | None, size: int = PAGE) -> Listing:
    """Read a page of a query that starts after a record.

    Raises:
      UserError: the filter is invalid, or the record does not exist.
    """

    def read(connection: sa.Connection) -> tuple[list[str], list[Card]]:
        ids = find_ids(connection, query, size + 1, after or None)
        return ids, read_cards(connection, ids[:size])

    ids, cards = store.browse(read)
    return Listing(tuple(cards), ids[size - 1] if len(ids) > size else None)


def read_cards(connection: sa.Connection, ids: Sequence[str], cut: int = CUT) -> list[Card]:
    """Read the cards of the records that exist, in the order of ids."""
    table = schema.records
    found: dict[str, Card] = {}
    for part in split(ids):
        query = sa.select(
            table.c.id,
            table.c.kind,
            table.c.origin,
            table.c.time,
            table.c.tags,
            sa.func.substr(table.c.text, 1, cut).label("text"),
            sa.func.length(table.c.text).label("length"),
            table.c.blob,
            table.c.media_type,
        )
        for row in connection.execute(
            query.where(table.c.id.in_(part), table.c.deleted.is_(None))
        ).mappings():
            found[row["id"]] = Card(
                **{
                    **row,
                    "time": to_time(row["time"]),
                    "tags": tuple(row["tags"] or ()),
                    "text": row["text"] or "",
                    "length": row["length"] or 0,
                }
            )
    names = _read_names(connection, found)
    scores = read_scores(connection, list(found))
    asked = _read_asked(connection, found)
    return [
        replace(
            found[one],
            name=names.get(one, ""),
            scores=tuple(scores.get(one, ())),
            asked=asked.get(one, ""),
        )
        for one in ids
        if one in found
    ]


def _read_names(connection: sa.Connection, cards: Mapping[str, Card]) -> dict[str, str]:
    """Return the name of each record: a response has that of its run, feedback its content."""
    found: dict[str, str] = {}
    runs = schema.KINDS["run"]
    for kind in {card.kind for card in cards.values()}:
        own = schema.KINDS[kind]
        ids = [one for one, card in cards.items() if card.kind == kind]
        columns: dict[str, sa.ColumnElement[Any]] = {c.name: c for c in own.c}
        source: sa.FromClause = own
        if kind == "response":
            source = own.outerjoin(runs, runs.c.id == own.c.run)
            columns = {"name": runs.c.name}
        wanted = [
            columns[name]
            for name in ("name", "role", "label", "value", "predicate", "path")
            if name in columns
        ]
        if not wanted:
            continue
        for part in split(ids):
            query = sa.select(own.c.id, *wanted).select_from(source).where(own.c.id.in_(part))
            for one, *values in connection.execute(query):
                found[one] = " ".join(
                    f"{v:g}" if isinstance(v, float) else str(v) for v in values if v is not None
                )
    return found


def _read_asked(connection: sa.Connection, cards: Mapping[str, Card]) -> dict[str, str]:
    ids = [one for one, card in cards.items() if card.kind == "response"]
    own, table = schema.KINDS["response"], schema.records
    found: dict[str, str] = {}
    for part in split(ids):
        query = sa.select(own.c.id, sa.func.substr(table.c.text, 1, CUT // 2))
        joined = own.join(table, table.c.id == own.c.prompt)
        rows = connection.execute(query.select_from(joined).where(own.c.id.in_(part)))
        found |= {one: text or "" for one, text in rows}
    return found


def read_scores(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Score]]:
    """Read the valid feedback on records, grouped by name."""
    judged, table = schema.KINDS["feedback"], schema.records
    found: dict[str, list[Score]] = {}
    for part in split(ids):
        query = (
            sa.select(
                judged.c.target,
                judged.c.name,
                sa.func.count(),
                sa.func.avg(judged.c.value),
                sa.func.max(judged.c.label),
            )
            .select_from(judged.join(table, table.c.id == judged.c.id))
            .where(judged.c.target.in_(part), judged.c.valid, table.c.deleted.is_(None))
            .group_by(judged.c.target, judged.c.name)
            .order_by(judged.c.target, judged.c.name)
        )
        for target, name, count, mean, label in connection.execute(query):
            found.setdefault(target, []).append(Score(name, count, mean, label))
    return found
