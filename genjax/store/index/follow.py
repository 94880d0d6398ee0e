"""Let the index follow the store, whose outbox lists the changes.

A change is applied before it is marked as done, and applying it twice is harmless. So ``follow``
recovers from a process killed at any moment, and ``rebuild`` from a lost index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from genjax.errors import UserError
from genjax.store.index.index import BATCH, KEEP, Entry, Hit, Index, Query

COUNTED = 100_000  # most changes that are counted as behind


@dataclass(frozen=True)
class Change:
    """A line of the outbox.

    Attributes:
      seq: its number; later changes have larger ones.
      id: of the entry that changed.
      op: "upsert", or "delete".
    """

    seq: int
    id: str
    op: Literal["upsert", "delete"]


class Outbox(Protocol):
    """The changes that an index follows. New changes always have larger numbers than those already
    read; the oldest may be removed once every index contains them.
    """

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """Return the first ``limit`` changes with numbers above ``after``."""

    def entries(self, ids: Sequence[str]) -> Sequence[Entry]:
        """Return the entries of these ids that exist now, in any order."""

    def newest(self) -> int:
        """Return the number of the newest change; 0 if there was none."""

    def removed(self) -> int:
        """Return the number of the last removed change; 0 if none was removed."""

    def ids(self, after: str, limit: int) -> Sequence[str]:
        """Return the first ``limit`` ids after one, in their order, of all that may have an
        entry.
        """


@dataclass(frozen=True)
class Followed:
    """The result of ``follow``.

    Attributes:
      upserted: number of entries written.
      deleted: number of entries removed.
      seq: last change that the index now contains.
    """

    upserted: int
    deleted: int
    seq: int


@dataclass(frozen=True)
class Found:
    """The hits of a search, and how far the index is behind.

    Attributes:
      hits: hits, best first.
      behind: number of entries that changed since the index last followed.
    """

    hits: tuple[Hit, ...]
    behind: int


def follow(
    index: Index, outbox: Outbox, batch: int = BATCH, keep: timedelta | None = KEEP
) -> Followed:
    """Apply new changes to the index, then compact and clean it; after an interrupted rebuild,
    rebuild it.

    Args:
      index: that follows.
      outbox: of the store.
      batch: changes that are read and applied at once.
      keep: see ``Index.maintain``; None leaves that out.
    """
    state = index.read_state()
    if not state.complete or _is_lost(outbox, state.seq):
        return rebuild(index, outbox, batch)
    done = _apply(index, outbox, state.seq, batch)
    if keep is not None:
        index.maintain(keep)
    return done


def rebuild(index: Index, outbox: Outbox, batch: int = BATCH) -> Followed:
    """Build the index from scratch; if it is killed, the next ``follow`` starts again."""
    newest = outbox.newest()
    index.rebuild(())
    index.mark(0, complete=False)
    upserted = 0
    for ids in _read_ids(outbox, batch):
        upserted += _write(index, outbox, ids)[0]
        index.mark(0, complete=False)
    done = _apply(index, outbox, newest, batch, complete=False)  # what has changed meanwhile
    index.mark(done.seq)
    index.maintain(timedelta(0))
    return Followed(upserted + done.upserted, done.deleted, done.seq)


def count_behind(index: Index, outbox: Outbox) -> int:
    """Return the number of entries that changed since the index last followed, ``COUNTED`` at
    most.
    """
    state = index.read_state()
    if not state.complete or _is_lost(outbox, state.seq):
        count = 0
        for ids in _read_ids(outbox, BATCH):
            count += len(outbox.entries(ids))
            if count >= COUNTED:
                return COUNTED
        return count
    after = state.seq
    changed: set[str] = set()
    for changes in _read(outbox, after, BATCH):
        changed |= {change.id for change in changes}
        if len(changed) >= COUNTED:
            return COUNTED
    return len(changed)


def search(index: Index, outbox: Outbox, query: Query) -> Found:
    """Return the hits of a query, with how many entries the index is behind."""
    return Found(index.search(query), count_behind(index, outbox))


def _apply(index: Index, outbox: Outbox, after: int, batch: int, complete: bool = True) -> Followed:
    upserted = deleted = 0
    for changes in _read(outbox, after, batch):
        written, removed = _write(index, outbox, list(dict.fromkeys(c.id for c in changes)))
        upserted, deleted = upserted + written, deleted + removed
        after = changes[-1].seq
        index.mark(after, complete)
    return Followed(upserted, deleted, after)


def _write(index: Index, outbox: Outbox, named: Sequence[str]) -> tuple[int, int]:
    """Write the current entries of some ids; return how many were written and how many removed."""
    there = outbox.entries(named)
    known = {entry.id for entry in there}
    if strange := known - set(named):
        raise UserError(f"outbox: it gives entries that were not named: {min(strange)}")
    return index.upsert(there), index.delete(name for name in named if name not in known)


def _read(outbox: Outbox, after: int, batch: int) -> Iterator[Sequence[Change]]:
    while changes := outbox.changes(after, batch):
        yield changes
        after = changes[-1].seq


def _read_ids(outbox: Outbox, batch: int) -> Iterator[Sequence[str]]:
    after = ""
    while ids := outbox.ids(after, batch):
        yield ids
        after = ids[-1]


def _is_lost(outbox: Outbox, seq: int) -> bool:
    """Return whether an index has a change that the store lacks, for example after a restore, or
    lacks one that was removed from the outbox.
    """
    return seq > outbox.newest() or seq < outbox.removed()
