"""Search of a store: its index follows the outbox, and says which records are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genjax.errors import UserError
from genjax.serial.json_text import Json
from genjax.store.filters import All, Compare, Filter, parse_filter
from genjax.store.index import follow as following
from genjax.store.index.facts import FieldValue
from genjax.store.index.follow import Change, Followed, Found
from genjax.store.index.index import LONGEST_TEXT, POOL, Entry, Index, Query
from genjax.store.index.opening import open_encoder, open_index
from genjax.store.lookups import find_visible
from genjax.store.records import (
    COMMON,
    HEADINGS,
    Chunk,
    Feedback,
    Payload,
    Record,
    Wanted,
    fields_of,
)
from genjax.store.rows import load, name_kind
from genjax.store.store import Store

PLAIN = (str, int, float, bool)


@dataclass(frozen=True)
class Outbox:
    """What the index of a store follows, see ``genjax.store.index.follow``."""

    store: Store

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """The first changes after one."""
        found = self.store.read_outbox(after, limit)
        return [
            Change(one.seq, one.record, "delete" if one.action == "delete" else "upsert")
            for one in found
        ]

    def entries(self, ids: Sequence[str]) -> Sequence[Entry]:
        """The entries of records that have a text and are not deleted."""
        with self.store.reading() as connection:
            records = load(connection, find_visible(connection, ids))
        return [entry for record in records if (entry := make_entry(record)) is not None]


def make_entry(record: Record) -> Entry | None:
    """What is searched of a record, its fields to filter by; None where it has no text."""
    payload = getattr(record, "payload", None)
    text = payload.text if isinstance(payload, Payload) else None
    title = "rationale" if isinstance(record, Feedback) else "name"
    text = text or getattr(record, title, None)
    if not text or not text.strip():
        return None
    if isinstance(record, Chunk):
        text = "\n".join((*find_headings(record), text))
    fields: dict[str, FieldValue] = {"tags": record.tags, "parents": record.parents}
    fields |= _flatten("metadata", record.metadata)
    for name, value in fields_of(record).items():
        if isinstance(value, PLAIN) and (name not in COMMON or name == "generator"):
            fields[name] = value
    return Entry(
        record.id, text[:LONGEST_TEXT], name_kind(record), record.origin, None, record.time, fields
    )


def find_headings(chunk: Chunk) -> list[str]:
    """The headings above a chunk that its own text does not have."""
    found = chunk.metadata.get(HEADINGS)
    named = found if isinstance(found, list | tuple) else ()
    text = chunk.payload.text or ""
    return [one for one in named if isinstance(one, str) and one not in text]


def _flatten(name: str, value: Json) -> dict[str, FieldValue]:
    """Members of objects by their dotted names; lists of plain values as tuples."""
    if isinstance(value, PLAIN):
        return {name: value}
    if isinstance(value, list) and all(isinstance(one, PLAIN) for one in value):
        return {name: tuple(value)}
    found: dict[str, FieldValue] = {}
    for key, one in value.items() if hasattr(value, "items") else ():
        found |= _flatten(f"{name}.{key}", one)
    return found


def find_index(store: Store, url: str | None) -> str:
    """The URL of a store's index: beside a SQLite file, or the same PostgreSQL, by default."""
    if url is not None:
        return url
    if store.is_postgres:
        return store.url.render_as_string(hide_password=False)
    return str(Path(store.place).absolute().with_suffix(".index"))


def open_search(
    store: Store,
    url: str | None = None,
    encoder: str = "wordllama",
    rebuild: bool = False,
    language: str = "english",
) -> Index:
    """The index of a store.

    Args:
      language: whose stems words are compared by; that which the index was made with holds.

    Raises:
      UserError: it cannot be opened, or another encoder built it.
    """
    place = find_index(store, url)
    return open_index(place, open_encoder(encoder), language=language, rebuild=rebuild)


def search(
    store: Store,
    index: Index,
    text: str,
    *,
    filter: Filter | str = "",
    origin: Wanted = "real",
    mode: str = "hybrid",
    limit: int = 10,
) -> Found:
    """Find records by words and meaning; ``behind`` says how many the index has yet to follow.

    Args:
      text: what is looked for.
      filter: of the records, without scores.
      origin: of the records.
      mode: "hybrid", "vector" or "keyword".
      limit: how many at most.

    Raises:
      UserError: the filter or the query is wrong.
    """
    tree = parse_filter(filter) if isinstance(filter, str) else filter
    if origin not in ("real", "synthetic", "any"):
        raise UserError("origin must be one of real, synthetic, any", "origin")
    if origin != "any":
        tree = All((Compare("origin", "=", origin), tree))
    pool = max(POOL, limit) if isinstance(limit, int) else POOL
    query = Query(text, None, tree, mode, limit, pool=pool)  # type: ignore[arg-type]
    return following.search(index, Outbox(store), query)


def follow(store: Store, index: Index) -> Followed:
    """Let the index follow the store, then compact and clean it."""
    return following.follow(index, Outbox(store))


def rebuild(store: Store, index: Index) -> Followed:
    """Build the index again from the store."""
    return following.rebuild(index, Outbox(store))
