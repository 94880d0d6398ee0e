"""The index follows the store: SQL is the truth, and its outbox says what has changed.

A change is applied before it is remembered, and applying one twice does no harm. So a process that
is killed at any moment is repaired by ``follow``, a lost index by ``rebuild``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from genjax.errors import UserError
from genjax.store.index.index import BATCH, KEEP, Entry, Hit, Index, Query

COUNTED = 100_000  # changes that are counted at most to say how far an index is behind


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
    """What the index follows. It keeps the newest change of every entry, of deleted ones too, and
    none appears below one that was read already.
    """

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """The first ``limit`` changes above ``after``, by their number."""

    def entries(self, ids: Sequence[str]) -> Sequence[Entry]:
        """The entries of these ids that are there now, in any order."""


@dataclass(frozen=True)
class Followed:
    """What ``follow`` did.

    Attributes:
      upserted: entries that were written.
      deleted: entries that were removed.
      seq: the last change that the index now holds.
    """

    upserted: int
    deleted: int
    seq: int


@dataclass(frozen=True)
class Found:
    """The hits of a search, and how far the index is behind.

    Attributes:
      hits: best first.
      behind: entries that changed since the index last followed.
    """

    hits: tuple[Hit, ...]
    behind: int


def follow(
    index: Index, outbox: Outbox, batch: int = BATCH, keep: timedelta | None = KEEP
) -> Followed:
    """Apply what the index has not seen, then compact and clean it; after a rebuild that was
    interrupted, rebuild it.

    Args:
      index: that follows.
      outbox: of the store.
      batch: changes that are read and applied at once.
      keep: see ``Index.maintain``; None leaves that out.
    """
    state = index.read_state()
    if not state.complete or _is_ahead(outbox, state.seq):
        return rebuild(index, outbox, batch)
    done = _apply(index, outbox, state.seq, batch)
    if keep is not None:
        index.maintain(keep)
    return done


def rebuild(index: Index, outbox: Outbox, batch: int = BATCH) -> Followed:
    """Build the index from nothing. One that is killed here starts again at the next ``follow``."""
    index.rebuild(())
    index.mark(0, complete=False)
    done = _apply(index, outbox, 0, batch, complete=False)
    index.mark(done.seq)
    index.maintain(timedelta(0))
    return done


def count_behind(index: Index, outbox: Outbox) -> int:
    """The number of entries that changed since the index last followed, ``COUNTED`` at most."""
    state = index.read_state()
    after = state.seq if state.complete and not _is_ahead(outbox, state.seq) else 0
    changed: set[str] = set()
    for changes in _read(outbox, after, BATCH):
        changed |= {change.id for change in changes}
        if len(changed) >= COUNTED:
            return COUNTED
    return len(changed)


def search(index: Index, outbox: Outbox, query: Query) -> Found:
    """The hits of a query, with how many entries the index is behind."""
    return Found(index.search(query), count_behind(index, outbox))


def _apply(index: Index, outbox: Outbox, after: int, batch: int, complete: bool = True) -> Followed:
    upserted = deleted = 0
    for changes in _read(outbox, after, batch):
        named = list(dict.fromkeys(change.id for change in changes))
        there = outbox.entries(named)
        known = {entry.id for entry in there}
        if strange := known - set(named):
            raise UserError(f"outbox: it gives entries that were not named: {min(strange)}")
        upserted += index.upsert(there)
        deleted += index.delete(name for name in named if name not in known)
        after = changes[-1].seq
        index.mark(after, complete)
    return Followed(upserted, deleted, after)


def _read(outbox: Outbox, after: int, batch: int) -> Iterator[Sequence[Change]]:
    while changes := outbox.changes(after, batch):
        yield changes
        after = changes[-1].seq


def _is_ahead(outbox: Outbox, seq: int) -> bool:
    """Whether the index has seen a change that the store has not: that of a backup, say."""
    return seq > 0 and not outbox.changes(seq - 1, 1)
