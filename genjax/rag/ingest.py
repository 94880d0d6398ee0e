"""Add the documents of files and their chunks to a store.

The id of a document is derived from its place, and the ids of its chunks also from their contents.
Reading an unchanged file again therefore adds nothing, reading a changed file replaces only the
changed chunks, and reading a file after an interruption completes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.rag.chunks import Cutting, Tokens, open_tokens
from genjax.rag.documents import Source, read_file
from genjax.rag.sections import Section
from genjax.store import schema
from genjax.store.filters import All, Compare, Filter
from genjax.store.limits import check_record
from genjax.store.lookups import find_known, find_visible
from genjax.store.privacy.guard import Guard
from genjax.store.records import HEADINGS, Chunk, Document, Origin, Payload
from genjax.store.rows import load
from genjax.store.runs import name_record
from genjax.store.store import Store


@dataclass(frozen=True)
class Ingested:
    """The counts of an ingestion.

    Attributes:
      documents: the number of documents read.
      added: the number of chunks that are new or were hidden before.
      kept: the number of chunks that the store already had.
      removed: the number of chunks that are now hidden because the file no longer has them.
    """

    documents: int
    added: int
    kept: int
    removed: int


def ingest_file(
    store: Store,
    path: str | Path,
    cutting: Cutting = Cutting(),
    tokens: Tokens | None = None,
    *,
    encoding: str | None = None,
    field: str = "text",
    origin: Origin = "real",
    generator: str | None = None,
) -> Ingested:
    """Add the documents of a file and their chunks to a store, as ``read_file`` reads them.

    Earlier documents of the file that it no longer has are hidden.

    Args:
      store: the store, open for writing.
      path: the path of the file.
      cutting: the options of cutting.
      tokens: the tokenizer that counts the tokens of chunks; WordLlama's by default.
      encoding: the encoding of the file; by default the one that it declares, or UTF-8.
      field: the field of a JSON row that holds its text.
      origin: the origin of the documents.
      generator: the generator of synthetic documents.

    Raises:
      UserError: the file or one of its documents is invalid; nothing is written.
    """
    sources = read_file(path, encoding, field)
    found = ingest_sources(store, sources, cutting, tokens, origin=origin, generator=generator)
    here = {name_document(source.place, store.guard.names) for source in sources}
    file = str(Path(path).expanduser().resolve())
    there: Filter = Compare("metadata.file", "=", file)
    if "metadata" in store.guard.sealed:  # nothing can be searched for in it
        there = All(())
    gone = [
        one.id
        for one in store.select(there, kind="document", origin="any")
        if one.id not in here and one.metadata.get("file") == file
    ]
    removed = found.removed
    for document in gone:
        chunks = _find_chunks(store, document)
        removed += len(chunks)
        store.delete(*sorted(chunks), document)
    return dataclasses.replace(found, removed=removed)


def ingest_sources(
    store: Store,
    sources: Sequence[Source],
    cutting: Cutting = Cutting(),
    tokens: Tokens | None = None,
    *,
    origin: Origin = "real",
    generator: str | None = None,
) -> Ingested:
    """Add documents and their chunks to a store, replacing documents with the same ``place``.

    Raises:
      UserError: a document is invalid; nothing is written.
    """
    tokens = tokens or open_tokens()
    sources = [_clean(source, store.guard) for source in sources]
    store = dataclasses.replace(store, cleans=False)  # chunks stay parts of their documents
    made = [_make_document(source, origin, generator, store.guard.names) for source in sources]
    for document in made:
        try:
            check_record(document, store.limits)
        except UserError as error:
            raise UserError(f"{document.source}: {error}", error.field) from None
    done = Ingested(len(sources), 0, 0, 0)
    for source, document in zip(sources, made, strict=True):
        chunks = make_chunks(source, document, cutting, tokens, store.guard.names)
        added, removed = _write(store, document, chunks)
        done = Ingested(
            done.documents,
            done.added + added,
            done.kept + len(chunks) - added,
            done.removed + removed,
        )
    return done


def name_document(place: str, secret: bytes = b"") -> str:
    """Return the id of the document at a place; see ``name_record``."""
    return name_record("document", place, secret)


def make_chunks(
    source: Source, document: Document, cutting: Cutting, tokens: Tokens, secret: bytes = b""
) -> list[Chunk]:
    """Return the chunks of a document in order; the text of each is ``source.text[start:end]``.

    Args:
      secret: secret of an encrypted store, see ``name_record``.
    """
    chunks = []
    for cut in cutting.cut(source.text, source.sections, tokens):
        text = source.text[cut.start : cut.end]
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = "\n".join((document.id, str(cut.start), digest, *cut.headings))
        chunks.append(
            Chunk(
                id=name_record("chunk", key, secret),
                origin=document.origin,
                generator=document.generator,
                document=document.id,
                start=cut.start,
                end=cut.end,
                hash=digest,
                payload=Payload(text=text),
                metadata={HEADINGS: list(cut.headings)} if cut.headings else {},
            )
        )
    return chunks


def _clean(source: Source, guard: Guard) -> Source:
    """Return a source without personal data, where the store removes it, a section at a time."""
    cleaner = guard.cleaner
    if cleaner is None:
        return source
    parts: list[str] = []
    sections: list[Section] = []
    at = 0
    for section in source.sections:
        text = cleaner.text(source.text[section.start : section.end])
        headings = tuple(map(cleaner.text, section.headings))
        sections.append(Section(at, at + len(text), headings))
        parts.append(text)
        at += len(text)
    return dataclasses.replace(
        source,
        name=cleaner.text(source.name),
        text="".join(parts),
        sections=tuple(sections),
        metadata=cleaner.json(dict(source.metadata)),
    )


def _make_document(
    source: Source, origin: Origin, generator: str | None, secret: bytes
) -> Document:
    return Document(
        id=name_document(source.place, secret),
        origin=origin,
        generator=generator,
        name=source.name,
        source=source.place,
        hash=source.hash,
        payload=Payload(text=source.text),
        metadata=source.metadata,
    )


def _write(store: Store, document: Document, chunks: Sequence[Chunk]) -> tuple[int, int]:
    """Write a document with its chunks and return the numbers of added and of hidden chunks.

    If the process is interrupted between two steps, the text of every visible chunk is in the
    document, and the next call completes the change.
    """
    wanted = {chunk.id: chunk for chunk in chunks}
    before = _find(store, document.id)
    if before is None:
        return store.add_new([document, *chunks]) - 1, 0
    if before.origin != document.origin:
        raise UserError(
            f"origin: {document.source} is in the store as {before.origin}: take that origin",
            "origin",
        )
    there = _find_chunks(store, document.id)
    gone = [one for one in there if one not in wanted]
    if gone:
        store.delete(*gone)
    if _find_hidden(store, [document.id]):
        store.undelete(document.id)
    changed = {
        name: getattr(document, name)
        for name in ("name", "hash", "payload", "metadata")
        if getattr(document, name) != getattr(before, name)
    }
    if changed:
        store.update(document.id, **changed)
    missing = [one for one in wanted if one not in there]
    hidden = _find_hidden(store, missing)
    if hidden:
        store.undelete(*hidden)
    new = [wanted[one] for one in missing if one not in set(hidden)]
    return len(hidden) + store.add_new(new), len(gone)


def _find(store: Store, one: str) -> Document | None:
    """Return a document, hidden or not; None if there is none."""
    with store.reading() as connection:
        found = load(connection, [one])
    return found[0] if found and isinstance(found[0], Document) else None


def _find_chunks(store: Store, document: str) -> dict[str, None]:
    """Return the ids of the visible chunks of a document, in order."""
    table, records = schema.KINDS["chunk"], schema.records
    query = (
        sa.select(table.c.id)
        .join(records, records.c.id == table.c.id)
        .where(table.c.document == document, records.c.deleted.is_(None))
        .order_by(table.c.start, table.c.id)
    )
    with store.reading() as connection:
        return dict.fromkeys(connection.execute(query).scalars())


def _find_hidden(store: Store, ids: Sequence[str]) -> list[str]:
    """Return those ids whose records are hidden."""
    with store.reading() as connection:
        hidden = find_known(connection, ids) - set(find_visible(connection, ids))
    return [one for one in ids if one in hidden]
