"""Search a store with an index that follows its outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from genjax.errors import UserError
from genjax.serial.json_text import Json
from genjax.store import followers, schema
from genjax.store.access.access import FULL
from genjax.store.filters import All, Any_, Compare, Filter, Not, parse_filter
from genjax.store.index import follow as following
from genjax.store.index.facts import FieldValue
from genjax.store.index.follow import Change, Followed, Found
from genjax.store.index.index import LONGEST_TEXT, POOL, Entry, Hit, Index, Query
from genjax.store.index.opening import open_encoder, open_index
from genjax.store.lookups import find_ids, find_visible
from genjax.store.privacy.indexing import limit_entry
from genjax.store.query import SCORE
from genjax.store.query import Query as records_of
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
from genjax.store.rows import load, name_kind, split
from genjax.store.store import Store

PLAIN = (str, int, float, bool)
NAMED = 500  # records that are named to an index one by one
EXACT = 10_000  # rows up to which indexes rank all of them exactly
MOST = 2**31  # of a query whose pool is chosen later
DEEPEST = 9_999  # hits that are looked up for one who sees a part


@dataclass(frozen=True)
class Outbox:
    """The changes that an index of a store follows, see ``genjax.store.index.follow``."""

    store: Store

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """Return the first changes after one."""
        found = self.store.read_outbox(after, limit)
        return [
            Change(one.seq, one.record, "delete" if one.action == "delete" else "upsert")
            for one in found
        ]

    def entries(self, ids: Sequence[str]) -> Sequence[Entry]:
        """Return the entries of records that have a text and are not deleted."""
        with self.store.reading() as connection:
            records = load(connection, find_visible(connection, ids))
        entries = (limit_entry(self.store.guard, one, make_entry(one)) for one in records)
        return [entry for entry in entries if entry is not None]

    def newest(self) -> int:
        """Return the number of the newest change, whoever asks: an index has all of them."""
        return self.store.for_(FULL).newest_change()

    def removed(self) -> int:
        """Return the number of the last change that was removed."""
        return followers.read_removed(self.store.for_(FULL))

    def ids(self, after: str, limit: int) -> Sequence[str]:
        """Return the first ids of records after one, in their order."""
        table = schema.records
        query = sa.select(table.c.id).where(table.c.id > after, table.c.deleted.is_(None))
        with self.store.reading() as connection:
            return list(connection.execute(query.order_by(table.c.id).limit(limit)).scalars())


def make_entry(record: Record) -> Entry | None:
    """Return the searchable text of a record and the fields for filters; None without text."""
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
    """Return the headings above a chunk that its own text does not have."""
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
    """Return the URL of a store's index: beside a SQLite file, or the same PostgreSQL, by
    default.
    """
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
    """Return the index of a store.

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
    offset: int = 0,
) -> Found:
    """Find records by words and meaning; ``behind`` is the number of changes the index lacks.

    An index has neither scores nor payloads besides texts. Where the filter names one, the store
    itself says which records pass, and these are ranked.

    For a principal that sees a part of the store, every hit is looked up in what it sees. Scores
    by words, which depend on all records, are replaced there by 1 / place.

    Args:
      store: the store.
      index: its index.
      text: text to search for.
      filter: filter of the records.
      origin: origin of the records.
      mode: "hybrid", "vector" or "keyword".
      limit: most hits.
      offset: number of hits to skip, for further pages.

    Raises:
      UserError: the filter or the query is wrong.
    """
    tree = parse_filter(filter) if isinstance(filter, str) else filter
    if origin not in ("real", "synthetic", "any"):
        raise UserError("origin must be one of real, synthetic, any", "origin")
    records_of(tree, None, origin).refuse_encrypted(store.engine)  # and unknown fields
    if store.access.views is not None:
        query = Query(text, None, None, mode, limit, offset, MOST)  # type: ignore[arg-type]
        return _search_seen(store, index, query, tree, origin)
    if _is_beyond(tree):
        query = Query(text, None, None, mode, limit, offset, MOST)  # type: ignore[arg-type]
        return _search_passed(store, index, query, tree, origin)
    if origin != "any":
        tree = All((Compare("origin", "=", origin), tree))
    whole = isinstance(limit, int) and isinstance(offset, int)
    pool = max(POOL, limit + offset) if whole else POOL
    chosen = None if tree == All(()) else tree  # some engines take no filter, not even this
    query = Query(text, None, chosen, mode, limit, offset, pool)  # type: ignore[arg-type]
    return following.search(index, Outbox(store), query)


def _is_beyond(tree: Filter) -> bool:
    """Return whether a filter compares fields that no index has."""
    if isinstance(tree, Compare):
        return tree.field.partition(".")[0] in (SCORE, *schema.PAYLOAD[1:])
    return any(map(_is_beyond, (tree.part,) if isinstance(tree, Not) else tree.parts))


def _search_seen(store: Store, index: Index, query: Query, tree: Filter, origin: Wanted) -> Found:
    """Return the hits of a query among what a principal sees, as if there were nothing else."""
    terms = [store.access.make_filter()]
    terms += [] if origin == "any" else [Compare("origin", "=", origin)]
    terms += [tree] if _is_known_to_all(tree) else []
    chosen = All(tuple(term for term in terms if term != All(())))
    outbox, end = Outbox(store), query.offset + query.limit
    asked, seen = max(POOL, 2 * end), list[Hit]()
    while True:
        part = replace(query, filter=chosen if chosen.parts else None, limit=asked, offset=0)
        found = index.search(replace(part, pool=asked))
        seen = _look_up(store, found, tree, origin)
        if len(seen) >= end or len(found) < asked or asked >= DEEPEST:
            break
        asked = min(4 * asked, DEEPEST)
    if query.mode != "vector":
        seen = [Hit(hit.id, round(1 / place, 6), {}) for place, hit in enumerate(seen, 1)]
    return Found(tuple(seen[query.offset : end]), following.count_behind(index, outbox))


def _look_up(store: Store, hits: Sequence[Hit], tree: Filter, origin: Wanted) -> list[Hit]:
    """Return the hits whose records are seen and pass a filter."""
    passed: set[str] = set()
    with store.reading() as connection:
        own = schema.records.c.id
        query, _, _ = records_of(tree, None, origin).compile(own, postgres=store.is_postgres)
        for part in split([hit.id for hit in hits]):
            passed |= set(connection.execute(query.where(own.in_(part))).scalars())
    return [hit for hit in hits if hit.id in passed]


def _is_known_to_all(tree: Filter) -> bool:
    """Return whether a filter compares only fields that tell nothing of other records."""
    if isinstance(tree, Compare):
        return tree.field in ("kind", "origin", "tags", "time", "id")
    return all(map(_is_known_to_all, (tree.part,) if isinstance(tree, Not) else tree.parts))


def _search_passed(store: Store, index: Index, query: Query, tree: Filter, origin: Wanted) -> Found:
    """Return the hits of a query among records that the store passes: exact, whatever the page."""
    wanted = records_of(tree, None, origin)
    passed = store.browse(lambda connection: find_ids(connection, wanted, None))
    if len(passed) <= NAMED:
        named = Any_(tuple(Compare("id", "=", one) for one in passed))
        size = max(POOL, query.limit + query.offset)
        return following.search(index, Outbox(store), replace(query, filter=named, pool=size))
    rows = index.stats().rows
    if rows > EXACT:
        raise UserError(
            f"filter passes {len(passed):,} records by score or payload, which an index of more "
            f"than {EXACT:,} ranks only up to {NAMED}: narrow it",
            "filter",
        )
    whole = replace(query, limit=max(rows, 1), offset=0, pool=max(rows, 1))
    found = following.search(index, Outbox(store), whole)
    known = set(passed)
    hits = [hit for hit in found.hits if hit.id in known]
    return Found(tuple(hits[query.offset : query.offset + query.limit]), found.behind)


def follow(
    store: Store, index: Index, name: str | None = None, forget: Sequence[str] = ()
) -> Followed:
    """Let the index follow the store, then compact and clean it.

    Args:
      name: of the index, its URL: changes that all named indexes hold are removed from the outbox.
        An index without a name leaves the outbox as it is.
      forget: the names of indexes that are gone, for which nothing is kept any more.
    """
    store.access.require_all()
    store.servers.refuse_incomplete("index")
    done = following.follow(index, Outbox(store))
    followers.trim(store, name, done.seq, forget)
    return done


def rebuild(
    store: Store, index: Index, name: str | None = None, forget: Sequence[str] = ()
) -> Followed:
    """Build the index again from the store; see ``follow``."""
    store.access.require_all()
    store.servers.refuse_incomplete("index")
    done = following.rebuild(index, Outbox(store))
    followers.trim(store, name, done.seq, forget)
    return done
