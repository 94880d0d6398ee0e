"""Open a store with its index and encoder once, to answer many questions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from genjax.rag.words import Language, open_language
from genjax.store import schema
from genjax.store.index.encoders import WORDLLAMA, Encoder
from genjax.store.index.index import EngineIndex
from genjax.store.index.opening import open_encoder, open_index
from genjax.store.lookups import find_visible
from genjax.store.records import HEADINGS, Chunk
from genjax.store.rows import load, split
from genjax.store.searching import find_index
from genjax.store.store import Store


@dataclass(frozen=True)
class Passage:
    """A chunk that may answer a question.

    Attributes:
      id: the id of the chunk's record.
      text: the text of the chunk.
      headings: the headings above the chunk, the highest level first.
      document: the id of the document.
      name: the name of the document.
      source: the place that the document is from.
      score: the relevance to the question, from 0 to 1.
      found_by: "search", or "graph" if relations of the named entities led to the chunk.
      origin: the origin of the chunk.
    """

    id: str
    text: str
    headings: tuple[str, ...] = ()
    document: str = ""
    name: str = ""
    source: str = ""
    score: float = 0.0
    found_by: str = "search"
    origin: str = "real"

    @property
    def title(self) -> str:
        """Return the name of the document and the headings above the chunk, joined by " > "."""
        return " > ".join(dict.fromkeys((self.name, *self.headings)))


@dataclass(frozen=True)
class Library:
    """A store of chunks that is open for questions.

    Attributes:
      store: the store of the chunks, open.
      index: the index that finds the chunks.
      encoder: the encoder of the index.
      language: the language in which words are compared.
    """

    store: Store
    index: EngineIndex
    encoder: Encoder
    language: Language

    def close(self) -> None:
        """Close the index; the store stays open."""
        self.index.close()

    def count_missing(self) -> int:
        """Return the number of chunks that changed since the index last followed the store."""
        state = self.index.read_state()
        after = state.seq if state.complete else 0
        box, records = schema.outbox, schema.records
        query = (
            sa.select(sa.func.count(sa.distinct(box.c.record)))
            .join(records, records.c.id == box.c.record)
            .where(box.c.seq > after, records.c.kind == "chunk")
        )
        with self.store.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def read_passages(self, ids: list[str]) -> dict[str, Passage]:
        """Return the passages of chunks, by id.

        Hidden chunks and chunks of hidden documents are left out.
        """
        with self.store.reading() as connection:
            there = set(find_visible(connection, ids))
            records = load(connection, [one for one in ids if one in there])
            chunks = [one for one in records if isinstance(one, Chunk)]
            documents = _read_names(connection, {chunk.document for chunk in chunks})
        found = {}
        for one in chunks:
            if (document := documents.get(one.document)) is not None:
                found[one.id] = Passage(
                    one.id,
                    one.payload.text or "",
                    tuple(map(str, one.metadata.get(HEADINGS) or ())),
                    one.document,
                    *document,
                    origin=one.origin,
                )
        return found

    def encode(self, texts: list[str]) -> np.ndarray:
        """Return the vectors of texts, of shape (N, D) and length 1."""
        return self.encoder.encode(texts)


def _read_names(connection: sa.Connection, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the name and source of each visible document, by id."""
    table, records = schema.KINDS["document"], schema.records
    found = {}
    for part in split(sorted(ids)):
        query = sa.select(table.c.id, table.c.name, table.c.source)
        query = query.join(records, records.c.id == table.c.id)
        query = query.where(table.c.id.in_(part), records.c.deleted.is_(None))
        for one, name, source in connection.execute(query):
            found[one] = name or "", source or ""
    return found


def open_library(
    store: Store,
    index: str | None = None,
    encoder: str = WORDLLAMA,
    language: str = "english",
) -> Library:
    """Open a library.

    Args:
      store: the store, open.
      index: the folder or URL of the index; next to a SQLite file by default.
      encoder: the encoder of the index's vectors.
      language: the Snowball name of the language of questions and documents.

    Raises:
      UserError: the language is unknown, or the index cannot be opened.
    """
    words = open_language(language)
    made = open_encoder(encoder)
    opened = open_index(find_index(store, index), made, language=language)
    return Library(store, opened, made, words)
