"""Read a sample of a window of prompts or responses, and all that drift is looked for in."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.filters import Filter
from genjax.store.index.encoders import Encoder
from genjax.store.monitoring.wording import is_refusal, tell_language
from genjax.store.query import Query, sort
from genjax.store.records import Prompt, Record, Response, Wanted
from genjax.store.rows import load, now, split, to_number
from genjax.store.store import Store

Kind: TypeAlias = Literal["prompt", "response"]
KINDS: tuple[Kind, ...] = ("prompt", "response")
READ = 20_000  # characters of a text that are looked at
TOGETHER = 100  # records in memory at once
Labels: TypeAlias = dict[str, tuple[str | None, ...]]
Scores: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """Records of a window, N of them.

    Attributes:
      ids: their ids.
      texts: their texts, cut where they are very long.
      lengths: characters of each whole text, [N].
      vectors: vectors of the texts, [N, D]; None without an encoder.
      languages: language of each, see ``tell_language``.
      refused: whether each is a refusal, [N]; None of prompts.
      tags: tags of each.
      labels: for each criterion a label of each record, or None.
      scores: for each criterion the mean of each record's finite values, NaN without any, [N].
      total: number of records in the whole window.
      future: number of the sample's records with a time in the future.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    lengths: np.ndarray
    vectors: np.ndarray | None
    languages: tuple[str, ...]
    refused: np.ndarray | None
    tags: tuple[tuple[str, ...], ...]
    labels: Mapping[str, tuple[str | None, ...]]
    scores: Mapping[str, np.ndarray]
    total: int
    future: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: np.ndarray) -> Sample:
        """Return a part of the sample by indices [M], as a window of its own."""

        def pick(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[i] for i in which)

        return dataclasses.replace(
            self,
            ids=pick(self.ids),
            texts=pick(self.texts),
            lengths=self.lengths[which],
            vectors=None if self.vectors is None else self.vectors[which],
            languages=pick(self.languages),
            refused=None if self.refused is None else self.refused[which],
            tags=pick(self.tags),
            labels={name: pick(values) for name, values in self.labels.items()},
            scores={name: values[which] for name, values in self.scores.items()},
            total=len(which),
        )


@dataclass(frozen=True)
class Window:
    """A window of records.

    Attributes:
      filter: filter of the records, as ``time>=2026-11-20``.
      kind: kind of the records.
      origin: origin of the records.
      most: number of records that are drawn from a larger window.
      reach: number of newest records that are drawn from; None for all of the window.
      one_each: whether one record is drawn of each conversation, whose turns are not independent.
    """

    filter: Filter | str
    kind: Kind = "response"
    origin: Wanted = "any"
    most: int = 1000
    reach: int | None = None
    one_each: bool = False


def read_sample(store: Store, window: Window, encoder: Encoder | None, seed: int) -> Sample:
    """Read a sample of a window.

    Raises:
      UserError: the filter is invalid.
    """
    query = Query(window.filter, window.kind, window.origin, "-time")

    def read(connection: sa.Connection) -> tuple[int, list[_Row], Labels, Scores]:
        ids = _find_texts(connection, query, window.reach)
        total, rng = len(ids), np.random.default_rng(seed)
        if window.one_each:
            ids = _draw_one_each(connection, window.kind, ids, rng)
        if len(ids) > window.most:
            ids = [ids[i] for i in sorted(rng.choice(len(ids), window.most, replace=False))]
        rows = [_cut(one) for part in split(ids, TOGETHER) for one in load(connection, part)]
        return total, rows, *_read_judged(connection, [row.id for row in rows])

    total, rows, labels, scores = store.browse(read)
    texts = tuple(row.text for row in rows)
    return Sample(
        tuple(row.id for row in rows),
        texts,
        np.array([row.length for row in rows], np.float64),
        None if encoder is None else encoder.encode(texts),
        tuple(map(tell_language, texts)),
        np.array([is_refusal(one) for one in texts]) if window.kind == "response" else None,
        tuple(row.tags for row in rows),
        labels,
        scores,
        total,
        sum(row.time > now() for row in rows),
    )


def _find_texts(connection: sa.Connection, query: Query, limit: int | None) -> list[str]:
    """Return the ids of records with a text, which may be encrypted, the newest first."""
    own = schema.records.c
    statement, column, down = query.compile(
        own.id, postgres=connection.dialect.name == "postgresql"
    )
    found = sort(statement.where(own.text.is_not(None)), column, down).limit(limit)
    return list(connection.execute(found).scalars())


def check_apart(reference: Sample, window: Sample) -> None:
    """Refuse windows that share records.

    Raises:
      UserError: they do.
    """
    both = set(reference.ids) & set(window.ids)
    if both:
        raise UserError(
            f"window must have no record of the reference, got {len(both):,} of both: {min(both)}",
            "window",
        )


def _draw_one_each(
    connection: sa.Connection, kind: Kind, ids: Sequence[str], rng: np.random.Generator
) -> list[str]:
    """Return one id of each session at random, and all without a session, in their order."""
    prompts, answers = schema.KINDS["prompt"], schema.KINDS["response"]
    one, source = prompts.c.id, sa.select(prompts.c.id, prompts.c.session)
    if kind == "response":
        joined = answers.join(prompts, prompts.c.id == answers.c.prompt)
        one, source = answers.c.id, sa.select(answers.c.id, prompts.c.session).select_from(joined)
    sessions: dict[str, str | None] = {}
    for part in split(ids):
        for own, session in connection.execute(source.where(one.in_(part))):
            sessions[own] = session
    seen: set[str] = set()
    kept = []
    for i in rng.permutation(len(ids)):
        session = sessions.get(ids[i])
        if session is None or session not in seen:
            kept.append(i)
            seen |= set() if session is None else {session}
    return [ids[i] for i in sorted(kept)]


class _Row(NamedTuple):
    """What is kept of a record: its text may be too long to keep many of them."""

    id: str
    text: str
    length: int
    tags: tuple[str, ...]
    time: int


def _cut(record: Record) -> _Row:
    assert isinstance(record, Prompt | Response) and record.time is not None
    text = record.payload.text or ""
    return _Row(record.id, text[:READ], len(text), record.tags, to_number(record.time))


def _read_judged(connection: sa.Connection, ids: Sequence[str]) -> tuple[Labels, Scores]:
    """Read the labels and scores of records by criterion, in the order of ids."""
    judged, records = schema.KINDS["feedback"], schema.records
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    words: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    joined = judged.join(records, records.c.id == judged.c.id)
    columns = (judged.c.target, judged.c.name, judged.c.value, judged.c.label)
    for part in split(ids):
        query = sa.select(*columns).select_from(joined)
        query = query.where(
            judged.c.target.in_(part), judged.c.valid.is_(sa.true()), records.c.deleted.is_(None)
        )
        for target, name, value, label in connection.execute(query):
            if value is not None and np.isfinite(value):
                values[name][target].append(value)
            if label is not None:
                words[name][target][label] += 1
    labels = {
        name: tuple(_find_common(found[one]) if one in found else None for one in ids)
        for name, found in words.items()
    }
    scores = {
        name: np.array([np.mean(found[one]) if one in found else np.nan for one in ids])
        for name, found in values.items()
    }
    return labels, scores


def _find_common(counts: Counter[str]) -> str:
    return min(counts, key=lambda word: (-counts[word], word))
