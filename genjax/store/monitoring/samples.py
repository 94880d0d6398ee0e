"""Read a sample of a window of prompts or responses, and all that drift is looked for in."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import sqlalchemy as sa

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.filters import All, Compare, Filter, parse_filter
from genjax.store.index.encoders import Encoder
from genjax.store.lookups import find_ids
from genjax.store.monitoring.wording import is_refusal, tell_language
from genjax.store.query import Query
from genjax.store.records import Payload, Record, Wanted
from genjax.store.rows import load, now, split, to_number
from genjax.store.store import Store

Kind: TypeAlias = Literal["prompt", "response"]
KINDS: tuple[Kind, ...] = ("prompt", "response")
HAS_TEXT = Compare("text", "!=", None)


@dataclass(frozen=True)
class Sample:
    """Records of a window, N of them.

    Attributes:
      ids: their ids.
      texts: their texts.
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
      newest: whether the newest are taken instead of drawing from all; for windows that are read
        again and again.
    """

    filter: Filter | str
    kind: Kind = "response"
    origin: Wanted = "any"
    most: int = 1000
    newest: bool = False


def read_sample(store: Store, window: Window, encoder: Encoder | None, seed: int) -> Sample:
    """Read a sample of a window.

    Raises:
      UserError: the filter is invalid.
    """
    tree = parse_filter(window.filter) if isinstance(window.filter, str) else window.filter
    order = "-time" if window.newest else "time"
    query = Query(All((HAS_TEXT, tree)), window.kind, window.origin, order)
    with store.reading() as connection:
        ids = find_ids(connection, query, window.most if window.newest else None)
        total = len(ids)
        if total > window.most:
            rng = np.random.default_rng(seed)
            ids = [ids[i] for i in sorted(rng.choice(total, window.most, replace=False))]
        records = load(connection, ids)
        labels, scores = _read_judged(connection, [record.id for record in records])
    texts = tuple(_find_text(record) for record in records)
    return Sample(
        tuple(record.id for record in records),
        texts,
        None if encoder is None else encoder.encode(texts),
        tuple(map(tell_language, texts)),
        np.array([is_refusal(one) for one in texts]) if window.kind == "response" else None,
        tuple(record.tags for record in records),
        labels,
        scores,
        total,
        sum(1 for r in records if r.time is not None and to_number(r.time) > now()),
    )


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


def _find_text(record: Record) -> str:
    payload = getattr(record, "payload", None)
    return payload.text or "" if isinstance(payload, Payload) else ""


def _read_judged(
    connection: sa.Connection, ids: Sequence[str]
) -> tuple[dict[str, tuple[str | None, ...]], dict[str, np.ndarray]]:
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
