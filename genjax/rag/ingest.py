"""Documents of files come into a store with their chunks; what is known already stays.

The ids of a document and its chunks follow from where it is and what it says. So a file that comes
again adds nothing, one that changed replaces what changed, and a process that was killed is
continued by the next that reads the same file.
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
from genjax.store import schema
from genjax.store.filters import Compare
from genjax.store.limits import check_record
from genjax.store.lookups import find_known, find_visible
from genjax.store.records import HEADINGS, Chunk, Document, Origin, Payload
from genjax.store.rows import load
from genjax.store.runs import name_record
from genjax.store.store import Store


@dataclass(frozen=True)
class Ingested:
    """What came in.

    Attributes:
      documents: of the file.
      added: chunks that are new, or shown again.
      kept: chunks that were there.
      removed: chunks that are hidden now, as the file no longer has them.
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
    """Add the documents of a file and their chunks to a store; see ``read_file``.

    Documents that came from the file before and that it no longer has are hidden.

    Args:
      tokens: that chunks are cut by; those of WordLlama by default.
      origin: of the documents.
      generator: of synthetic ones.

    Raises:
      UserError: the file or one of its documents is wrong; then nothing is written.
    """
    sources = read_file(path, encoding, field)
    found = ingest_sources(store, sources, cutting, tokens, origin=origin, generator=generator)
    here = {name_document(source.place) for source in sources}
    file = str(Path(path).expanduser().resolve())
    gone = [
        one.id
        for one in store.select(Compare("metadata.file", "=", file), kind="document", origin="any")
        if one.id not in here
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
    """Add documents and their chunks to a store, each in place of one of the same ``place``.

    Raises:
      UserError: a document is wrong; then nothing is written.
    """
    tokens = tokens or open_tokens()
    made = [_make_document(source, origin, generator) for source in sources]
    for document in made:
        try:
            check_record(document, store.limits)
        except UserError as error:
            raise UserError(f"{document.source}: {error}", error.field) from None
    done = Ingested(len(sources), 0, 0, 0)
    for source, document in zip(sources, made, strict=True):
        chunks = make_chunks(source, document, cutting, tokens)
        added, removed = _write(store, document, chunks)
        done = Ingested(
            done.documents,
            done.added + added,
            done.kept + len(chunks) - added,
            done.removed + removed,
        )
    return done


def name_document(place: str) -> str:
    """The id of the document of a place."""
    return name_record("document", place)


def make_chunks(
    source: Source, document: Document, cutting: Cutting, tokens: Tokens
) -> list[Chunk]:
    """The chunks of a document in order; ``document.text[start:end]`` is the text of each."""
    chunks = []
    for cut in cutting.cut(source.text, source.sections, tokens):
        text = source.text[cut.start : cut.end]
        digest = hashlib.sha256(text.encode()).hexdigest()
        key = "\n".join((document.id, str(cut.start), digest, *cut.headings))
        chunks.append(
            Chunk(
                id=name_record("chunk", key),
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


def _make_document(source: Source, origin: Origin, generator: str | None) -> Document:
    return Document(
        id=name_document(source.place),
        origin=origin,
        generator=generator,
        name=source.name,
        source=source.place,
        hash=source.hash,
        payload=Payload(text=source.text),
        metadata=source.metadata,
    )


def _write(store: Store, document: Document, chunks: Sequence[Chunk]) -> tuple[int, int]:
    """Write a document with its chunks; returns how many chunks are new and how many are hidden.

    Where the process is killed between two steps, no chunk is there whose text is not in the
    document, and the next call does the rest.
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
    """A document, hidden or not; None where there is none."""
    with store.reading() as connection:
        found = load(connection, [one])
    return found[0] if found and isinstance(found[0], Document) else None


def _find_chunks(store: Store, document: str) -> dict[str, None]:
    """The ids of the chunks of a document that are not hidden, in their order."""
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
    """Those of the ids whose records were deleted."""
    with store.reading() as connection:
        hidden = find_known(connection, ids) - set(find_visible(connection, ids))
    return [one for one in ids if one in hidden]
