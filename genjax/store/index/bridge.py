"""Use the user's LangChain vector store as an index: Pinecone, Weaviate, Elasticsearch, ….

Every such store adds and deletes documents and finds similar ones, but each has its own language
for filters. So filters are applied here, by fetching more documents until enough of them pass.
There is no keyword search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from genjax.errors import UserError
from genjax.machine import disk
from genjax.store.index.encoders import Encoder
from genjax.store.index.engine import Ability, Ranked, Row, State
from genjax.store.index.facts import Where, holds
from genjax.store.index.fusion import Fusion
from genjax.store.index.index import EngineIndex

ID, FACTS = "genjax_id", "genjax_facts"  # members of a document's metadata
QUERY = "genjax query"  # stands for the text of a query, whose vector is known


class VectorStore(Protocol):
    """The part of LangChain's ``VectorStore`` that is used here."""

    def add_documents(self, documents: list[Any], *, ids: list[str]) -> list[str]:
        """Add documents, replacing those with the same ids."""

    def delete(self, ids: list[str]) -> Any:
        """Remove documents."""

    def similarity_search_with_score(self, query: str, k: int) -> Sequence[tuple[Any, float]]:
        """Return documents and scores, best first."""


class Embeddings:
    """An encoder with the methods of LangChain's ``Embeddings``, which its vector stores call.

    The bridge already knows the vectors, so they are looked up here by their text.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.given: Mapping[str, np.ndarray] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        new = [text for text in texts if text not in self.given]
        made = dict(zip(new, self.encoder.encode(new) if new else (), strict=True))
        known = {**self.given, **made}
        return [list(map(float, known[text])) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text."""
        return self.embed_documents([text])[0]


def open_bridge(
    store: VectorStore,
    embeddings: Embeddings,
    state: str | Path,
    *,
    fusion: Fusion | None = None,
    rebuild: bool = False,
) -> EngineIndex:
    """Return an index over a vector store that exists already and that nothing else writes to.

    Args:
      store: made with ``embeddings``.
      embeddings: of the encoder.
      state: a file that remembers what the store holds.
      fusion: see ``open_index``.
      rebuild: see ``open_index``.
    """
    index = EngineIndex(Bridge(store, embeddings, state), embeddings.encoder, fusion)
    if not rebuild:
        index.check_encoder(str(state))
    return index


class Bridge:
    """An engine over a vector store of LangChain's; ``close`` and each mark of the index save
    its state.
    """

    name = "a vector store of LangChain's"
    abilities: frozenset[Ability] = frozenset({"filter"})
    deepest = 10_000
    parallel = False

    def __init__(self, store: VectorStore, embeddings: Embeddings, state: str | Path) -> None:
        self._store, self._embeddings, self._path = store, embeddings, Path(state).expanduser()
        self._state: State | None = None
        self._ids: set[str] = set()
        if self._path.exists():
            try:
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                self._ids = set(kept["ids"])
                self._state = State.from_json(kept["state"], str(state))
            except (OSError, ValueError, KeyError, TypeError):
                raise UserError(
                    f"index: {state} is damaged: genjax store rebuild", "index"
                ) from None

    def read_state(self) -> State | None:
        """See ``Engine``."""
        return self._state

    def write_state(self, state: State) -> None:
        """See ``Engine``."""
        self._state = state
        self._save()

    def create(self, dimension: int) -> None:
        """See ``Engine``; this removes all known rows."""
        self.remove(sorted(self._ids))

    def write(self, rows: Sequence[Row]) -> None:
        """See ``Engine``."""
        from langchain_core.documents import Document

        self.remove([row.id for row in rows])  # many stores would keep both
        left = list(rows)
        while left:  # texts that are equal may have different vectors
            batch = list({row.text: row for row in reversed(left)}.values())
            chosen = {row.id for row in batch}
            left = [row for row in left if row.id not in chosen]
            documents = [
                Document(
                    page_content=row.text,
                    metadata={ID: row.id, FACTS: json.dumps(dict(row.facts))},
                )
                for row in batch
            ]
            self._embeddings.given = {row.text: row.vector for row in batch}
            try:
                self._store.add_documents(documents, ids=[_make_key(row.id) for row in batch])
            finally:
                self._embeddings.given = {}
            self._ids |= chosen

    def remove(self, ids: Sequence[str]) -> None:
        """See ``Engine``."""
        there = [name for name in ids if name in self._ids]
        if there:
            self._store.delete([_make_key(name) for name in there])
        self._ids -= set(there)

    def near(self, vector: np.ndarray, where: Where | None, k: int) -> Ranked:
        """See ``Engine``."""
        depth, self._embeddings.given = k, {QUERY: vector}
        try:
            while self._ids:
                depth = min(depth, self.deepest)
                found = self._store.similarity_search_with_score(QUERY, k=depth)
                passing = [
                    (str(document.metadata[ID]), float(score))
                    for document, score in found
                    if where is None
                    or holds(where, document.page_content, json.loads(document.metadata[FACTS]))
                ]
                if len(passing) >= k or len(found) < depth or depth == self.deepest:
                    return _make_scores(passing, found[0][1], found[-1][1])[:k] if found else []
                depth *= 4
        finally:
            self._embeddings.given = {}
        return []

    def match(self, text: str, where: Where | None, k: int) -> Ranked:
        """See ``Engine``; it is not called, as there is no keyword search."""
        raise UserError(f"mode must be 'vector': {self.name} has no keyword search", "mode")

    def count(self) -> int:
        """See ``Engine``."""
        return len(self._ids)

    def size(self) -> int:
        """See ``Engine``; the size is unknown."""
        return 0

    def tidy(self, keep: timedelta) -> None:
        """See ``Engine``; the store does that itself."""
        self.close()

    def purge(self) -> None:
        """See ``Engine``; what the store does with removed rows is up to it."""
        self._save()

    def close(self) -> None:
        """See ``Engine``."""
        if self._state is not None:
            self._save()

    def _save(self) -> None:
        assert self._state is not None
        kept = {"state": self._state.to_json(), "ids": sorted(self._ids)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        disk.write(self._path, json.dumps(kept))


def _make_scores(found: Ranked, first: float, last: float) -> Ranked:
    """Convert similarities or distances to scores, the higher the better."""
    sign = -1.0 if first < last else 1.0
    return [(name, sign * score if score == score else 0.0) for name, score in found]


def _make_key(name: str) -> str:
    """Return an id that cannot be part of any store's language."""
    return hashlib.sha256(name.encode()).hexdigest()
