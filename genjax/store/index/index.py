"""The index of texts, which finds entries by words and meaning.

The SQL store is authoritative; an index can be rebuilt from it at any time (``follow``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal, Protocol, TypeAlias

import numpy as np

from genjax.errors import UserError
from genjax.store.filters import Filter
from genjax.store.index.encoders import Encoder, scale_to_unit
from genjax.store.index.engine import Engine, Ranked, Row, State
from genjax.store.index.facts import FieldValue, Where, check_text, compile_filter, encode_all
from genjax.store.index.fusion import Fusion, ZScores

Mode: TypeAlias = Literal["hybrid", "vector", "keyword"]
MODES = ("hybrid", "vector", "keyword")
POOL = 100  # candidates of each side that a hybrid search ranks
DEPTH = 128  # fewest rows requested from an engine, so that first pages share one ranking
LONGEST_ID = 500  # most bytes
LONGEST_TEXT = 1_000_000  # most characters of an entry
LONGEST_QUERY = 100_000  # most characters
BATCH = 1000  # entries encoded and written at once
KEEP = timedelta(minutes=10)  # how long readers may still use replaced data


@dataclass(frozen=True)
class Entry:
    """A text to find: a record or a chunk of one.

    Attributes:
      id: id of the entry; a new entry with the same id replaces it.
      text: text to search.
      kind: kind of the record, such as "response".
      origin: "real" or "synthetic".
      vector: vector float [D]; None to encode the text.
      time: time of the record, in UTC unless it has a zone.
      fields: further fields for filters, also as "metadata." and a key; a tuple is a list, which
        ":" searches.
    """

    id: str
    text: str
    kind: str = ""
    origin: str = ""
    vector: np.ndarray | None = None
    time: datetime | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text(self.id, "id")
        check_text(self.text, "text")
        if not self.id or len(self.id.encode()) > LONGEST_ID:
            raise UserError(f"id must have 1 to {LONGEST_ID} bytes, got {self.id[:40]!r}", "id")
        if len(self.text) > LONGEST_TEXT:
            raise UserError(
                f"text of {self.id!r} must have at most {LONGEST_TEXT:,} characters, got "
                f"{len(self.text):,}: split it into chunks",
                "text",
            )


@dataclass(frozen=True)
class Query:
    """A query for entries.

    Attributes:
      text: words, or a similar text.
      vector: vector float [D]; None to encode the text.
      filter: filter that every hit must pass, see ``filters.parse_filter``.
      mode: "vector", "keyword", or "hybrid" for both.
      limit: most hits.
      offset: number of hits to skip, for further pages.
      pool: candidates of each side that "hybrid" ranks; at least offset + limit, and the same for
        all pages of a listing.
    """

    text: str = ""
    vector: np.ndarray | None = None
    filter: Filter | None = None
    mode: Mode = "hybrid"
    limit: int = 10
    offset: int = 0
    pool: int = POOL

    def __post_init__(self) -> None:
        check_text(self.text, "query")
        if self.mode not in MODES:
            raise UserError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}", "mode")
        if len(self.text) > LONGEST_QUERY:
            raise UserError(
                f"query must have at most {LONGEST_QUERY:,} characters, got {len(self.text):,}",
                "query",
            )
        if not self.text.strip() and (self.vector is None or self.mode != "vector"):
            raise UserError(f"query must not be empty, got {self.text!r}", "query")
        for name, value, least in (
            ("limit", self.limit, 1),
            ("offset", self.offset, 0),
            ("pool", self.pool, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{name} must be a whole number >= {least}, got {value!r}", name)
        if self.mode == "hybrid" and self.limit + self.offset > self.pool:
            raise UserError(
                f"pool must be >= limit + offset = {self.limit + self.offset}, got {self.pool}: "
                "raise it for all pages, or search by vector or keyword alone",
                "pool",
            )


@dataclass(frozen=True)
class Hit:
    """A found entry.

    Attributes:
      id: id of the entry.
      score: score that hits are sorted by; ties are sorted by id.
      parts: scores of the sides: "vector", the cosine; "keyword", the engine's score.
    """

    id: str
    score: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Stats:
    """Statistics of an index.

    Attributes:
      engine: name of the engine.
      rows: number of entries.
      bytes: size on disk or in memory; 0 if unknown.
      encoder: id of the encoder of its vectors.
      dimension: dimension of its vectors.
      seq: last change of the store that it contains.
      complete: False after an interrupted rebuild.
    """

    engine: str
    rows: int
    bytes: int
    encoder: str
    dimension: int
    seq: int
    complete: bool


class Index(Protocol):
    """Finds entries. ``open_index`` opens one."""

    def upsert(self, entries: Iterable[Entry]) -> int:
        """Add entries, replacing those with the same ids; return their number."""

    def delete(self, ids: Iterable[str]) -> int:
        """Remove entries, ignoring unknown ids; return the number of ids."""

    def search(self, query: Query) -> tuple[Hit, ...]:
        """Return the hits of a query, best first, equal scores by id."""

    def rebuild(self, entries: Iterable[Entry], seq: int = 0) -> int:
        """Replace all entries by these, which reflect the store up to the change ``seq``."""

    def maintain(self, keep: timedelta = KEEP) -> None:
        """Build missing indexes, compact, and remove replaced data older than ``keep``."""

    def stats(self) -> Stats:
        """Return statistics."""

    def read_state(self) -> State:
        """Return the stored state: the encoder, and the last change of the store it contains."""

    def mark(self, seq: int, complete: bool = True) -> None:
        """Record the last change that the index contains."""

    def close(self) -> None:
        """Release files and connections."""


class EngineIndex:
    """An ``Index`` over an engine and an encoder."""

    def __init__(self, engine: Engine, encoder: Encoder, fusion: Fusion | None = None) -> None:
        self._engine, self._encoder = engine, encoder
        self._fusion = ZScores() if fusion is None else fusion
        self._seen = False  # whether an index exists

    def check_encoder(self, where: str) -> None:
        """Refuse an index that another encoder built."""
        state, mine = self._engine.read_state(), self._encoder
        if state and (state.encoder, state.dimension) != (mine.id, mine.dimension):
            raise UserError(
                f"encoder must be {state.encoder!r} of {state.dimension} dimensions, which built "
                f"{where}, got {mine.id!r} of {mine.dimension}: take that one, or build the index "
                "again with: genjax store rebuild",
                "encoder",
            )

    def upsert(self, entries: Iterable[Entry]) -> int:
        """See ``Index``."""
        if self._engine.read_state() is None:
            self._create()
        return self._write(entries)

    def delete(self, ids: Iterable[str]) -> int:
        """See ``Index``."""
        named = list(dict.fromkeys(ids))
        for name in named:
            check_text(name, "id")
        if named and self._engine.read_state() is not None:
            self._engine.remove(named)
        return len(named)

    def search(self, query: Query) -> tuple[Hit, ...]:
        """See ``Index``.

        Raises:
          UserError: the engine cannot filter or search for keywords, the vector has another
            dimension, or the page lies deeper than the engine reaches.
        """
        where = None if query.filter is None else compile_filter(query.filter)
        self._check_abilities(query, where)
        self._seen = self._seen or self._engine.read_state() is not None
        if not self._seen:
            return ()
        end = query.offset + query.limit
        if query.mode == "keyword":
            ranked = self._match(query, where, end)
        elif query.mode == "vector":
            ranked = self._near(query, where, end)
        else:
            return self._fuse(query, where)[query.offset : end]
        return tuple(Hit(i, score, {query.mode: score}) for i, score in ranked[query.offset :])

    def rebuild(self, entries: Iterable[Entry], seq: int = 0) -> int:
        """See ``Index``."""
        self._create(complete=False)
        count = self._write(entries)
        self.mark(seq)
        self._engine.tidy(timedelta(0))
        return count

    def maintain(self, keep: timedelta = KEEP) -> None:
        """See ``Index``."""
        if self._engine.read_state() is not None:
            self._engine.tidy(keep)

    def stats(self) -> Stats:
        """See ``Index``."""
        state = self.read_state()
        there = self._engine.read_state() is not None
        return Stats(
            self._engine.name,
            self._engine.count() if there else 0,
            self._engine.size() if there else 0,
            state.encoder,
            state.dimension,
            state.seq,
            state.complete,
        )

    def read_state(self) -> State:
        """See ``Index``."""
        found = self._engine.read_state()
        return State(self._encoder.id, self._encoder.dimension) if found is None else found

    def mark(self, seq: int, complete: bool = True) -> None:
        """See ``Index``."""
        if self._engine.read_state() is None:
            self._create()
        self._engine.write_state(replace(self.read_state(), seq=seq, complete=complete))

    def close(self) -> None:
        """See ``Index``."""
        self._engine.close()

    def _create(self, complete: bool = True) -> None:
        # Mark it first, so that a process killed here does not leave a seemingly complete index.
        state = State(self._encoder.id, self._encoder.dimension, complete=False)
        self._engine.write_state(state)
        self._engine.create(self._encoder.dimension)
        self._engine.write_state(replace(state, complete=complete))

    def _write(self, entries: Iterable[Entry]) -> int:
        left, count = iter(entries), 0
        while batch := list(islice(left, BATCH)):
            newest = list({entry.id: entry for entry in batch}.values())
            self._engine.write(self._make_rows(newest))
            count += len(batch)
        return count

    def _make_rows(self, entries: Sequence[Entry]) -> list[Row]:
        texts = [entry.text for entry in entries if entry.vector is None]
        made = iter(self._encoder.encode(texts) if texts else ())
        rows = []
        for entry in entries:
            vector = next(made) if entry.vector is None else self._check(entry.vector)
            own = {"id": entry.id, "kind": entry.kind, "origin": entry.origin}
            known = own if entry.time is None else own | {"time": entry.time}
            rows.append(Row(entry.id, entry.text, encode_all({**entry.fields, **known}), vector))
        return rows

    def _check(self, vector: np.ndarray) -> np.ndarray:
        found = np.asarray(vector, np.float32)
        if found.shape != (self._encoder.dimension,):
            raise UserError(
                f"vector must have {self._encoder.dimension} numbers, got {found.shape}", "vector"
            )
        if not np.isfinite(found).all():
            raise UserError("vector must be finite, got NaN or infinity", "vector")
        return scale_to_unit(found[None])[0]

    def _check_abilities(self, query: Query, where: Where | None) -> None:
        engine = self._engine
        if query.mode != "vector" and "keyword" not in engine.abilities:
            raise UserError(
                f"mode must be 'vector': {engine.name} has no keyword search, got {query.mode!r}",
                "mode",
            )
        if where is not None and "filter" not in engine.abilities:
            raise UserError(f"filter must be empty: {engine.name} cannot filter", "filter")
        if query.limit + query.offset >= engine.deepest:
            raise UserError(
                f"limit + offset must be < {engine.deepest:,} with {engine.name}, got "
                f"{query.limit + query.offset:,}",
                "limit",
            )

    def _near(self, query: Query, where: Where | None, k: int) -> Ranked:
        if query.vector is None:
            vector = self._encoder.encode([query.text])[0]
        else:
            vector = self._check(query.vector)
        if not vector.any():  # a text without tokens is not near anything
            return []
        engine = self._engine
        return rank(lambda depth: engine.near(vector, where, depth), k, engine.deepest)

    def _match(self, query: Query, where: Where | None, k: int) -> Ranked:
        engine = self._engine
        return rank(lambda depth: engine.match(query.text, where, depth), k, engine.deepest)

    def _fuse(self, query: Query, where: Where | None) -> tuple[Hit, ...]:
        if self._engine.parallel:
            with ThreadPoolExecutor(1) as other:
                words = other.submit(self._match, query, where, query.pool)
                vector, keyword = dict(self._near(query, where, query.pool)), dict(words.result())
        else:
            vector = dict(self._near(query, where, query.pool))
            keyword = dict(self._match(query, where, query.pool))
        hits = []
        for name, score in self._fusion(vector, keyword).items():
            parts = {"vector": vector.get(name), "keyword": keyword.get(name)}
            known = {side: part for side, part in parts.items() if part is not None}
            hits.append(Hit(name, round(score, 6), known))
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.id)))


def rank(fetch: Callable[[int], Ranked], k: int, deepest: int) -> Ranked:
    """Return the first ``k`` of a ranking by score, then by id, however ties are fetched.

    Scores are rounded to 6 decimals, because further ones depend on the order of sums. More rows
    are fetched while the last one needed ties with the last one fetched.
    """
    depth = DEPTH
    while depth <= k:
        depth *= 2
    while True:
        depth = min(depth, deepest)
        found = [(name, round(score, 6)) for name, score in fetch(depth)]
        found.sort(key=lambda pair: (-pair[1], pair[0]))
        if len(found) < depth or depth == deepest or found[k - 1][1] > found[-1][1]:
            return found[:k]
        depth *= 4
