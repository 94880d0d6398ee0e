"""A store with its index, opened to be asked: what all answers need, opened once."""

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
      id: of the chunk's record.
      text: of it.
      headings: above it, the widest first.
      document: the id of its document.
      name: of the document.
      source: where the document is from.
      score: how much it has to do with the question, from 0 to 1.
      found_by: "search", or "graph" where relations of named entities lead to it.
      origin: of the chunk.
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
        """The name of its document and the headings above it."""
        return " > ".join(dict.fromkeys((self.name, *self.headings)))


@dataclass(frozen=True)
class Library:
    """What is asked.

    Attributes:
      store: holds the chunks.
      index: finds them.
      encoder: of the index.
      language: of words.
    """

    store: Store
    index: EngineIndex
    encoder: Encoder
    language: Language

    def close(self) -> None:
        """Close the index; the store stays open."""
        self.index.close()

    def count_missing(self) -> int:
        """How many chunks changed since the index last followed the store."""
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
        """The passages of chunks, by their ids; those that are hidden, or whose
        document is, are left out.
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
        """Vectors [N, D] of length 1."""
        return self.encoder.encode(texts)


def _read_names(connection: sa.Connection, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The name and source of each document that is not hidden, without its text."""
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
    """Open what is asked.

    Args:
      store: open already.
      index: its folder or URL; beside a SQLite file by default.
      encoder: of the index's vectors.
      language: of the questions and documents, as Snowball calls it.

    Raises:
      UserError: a language that is not known, or the index cannot be opened.
    """
    words = open_language(language)
    made = open_encoder(encoder)
    opened = open_index(find_index(store, index), made, language=language)
    return Library(store, opened, made, words)
