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
    """What the index follows. None of its changes appears below one that was read already; the
    oldest may be removed once every index holds them.
    """

    def changes(self, after: int, limit: int) -> Sequence[Change]:
        """Return the first ``limit`` changes above ``after``, by their number."""

    def entries(self, ids: Sequence[str]) -> Sequence[Entry]:
        """Return the entries of these ids that are there now, in any order."""

    def newest(self) -> int:
        """Return the number of the newest change, 0 where there was none."""

    def removed(self) -> int:
        """Return the number of the last change that is kept no more, 0 where all are there."""

    def ids(self, after: str, limit: int) -> Sequence[str]:
        """Return the first ``limit`` ids after one, in their order, of all that may have an
        entry.
        """


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
    if not state.complete or _is_lost(outbox, state.seq):
        return rebuild(index, outbox, batch)
    done = _apply(index, outbox, state.seq, batch)
    if keep is not None:
        index.maintain(keep)
    return done


def rebuild(index: Index, outbox: Outbox, batch: int = BATCH) -> Followed:
    """Build the index from nothing. One that is killed here starts again at the next ``follow``."""
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
    """Write the entries of some ids as they are now; returns how many, and how many are gone."""
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
    """Return whether an index has seen a change that the store has not, as after a backup came
    back, or has not seen one that is kept no more.
    """
    return seq > outbox.newest() or seq < outbox.removed()
