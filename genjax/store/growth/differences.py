"""Compare two named states of a store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from genjax.store import schema
from genjax.store.growth.past import Past, read_past
from genjax.store.growth.states import NOBODY, PAGE, State, find_state
from genjax.store.records import Record
from genjax.store.rows import to_rows
from genjax.store.store import Store


@dataclass(frozen=True)
class Difference:
    """What differs between two states of a store.

    Attributes:
      added: kinds of the records that only the second has, by id.
      removed: kinds of those that only the first has.
      changed: names of the fields that differ, by id.
      erased: for both states, the number of their records that were erased since, which are not
        compared.
    """

    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: Mapping[str, tuple[str, ...]]
    erased: tuple[int, int]


def diff_states(store: Store, first: str, second: str) -> Difference:
    """Return what differs between two states, from the first to the second.

    Raises:
      UserError: one does not exist.
    """
    one, two = find_state(store, first), find_state(store, second)
    added: dict[str, str] = {}
    removed: dict[str, str] = {}
    changed: dict[str, tuple[str, ...]] = {}
    with store.reading() as connection:
        for ids in _find_touched(connection, *sorted((one.seq, two.seq))):
            before, after = (read_past(connection, ids, state.seq) for state in (one, two))
            for record in ids:
                old, new = _see(before.get(record)), _see(after.get(record))
                if old is None and new is not None:
                    added[record] = new.__class__.__name__.lower()
                elif new is None and old is not None:
                    removed[record] = old.__class__.__name__.lower()
                elif old is not None and new is not None and (names := _compare(old, new)):
                    changed[record] = names
        erased = (_count_erased(connection, one), _count_erased(connection, two))
    return Difference(added, removed, changed, erased)


def _see(past: Past | None) -> Record | None:
    return None if past is None or past.deleted else past.record


def _compare(old: Record, new: Record) -> tuple[str, ...]:
    before, after = to_rows(old), to_rows(new)
    pairs = ((before[0], after[0]), (before[1], after[1]))
    names = [n for was, is_ in pairs for n, value in was.items() if is_[n] != value]
    return tuple(names + ["parents"] * (old.parents != new.parents))


def _find_touched(connection: sa.Connection, first: int, last: int) -> Iterator[list[str]]:
    """Yield the ids of the records that the history names between two entries, in order."""
    past, after = schema.history, NOBODY
    query = sa.select(past.c.record).where(past.c.seq > first, past.c.seq < last).distinct()
    query = query.order_by(past.c.record).limit(PAGE)
    while ids := list(connection.execute(query.where(past.c.record > after)).scalars()):
        yield ids
        after = ids[-1]


def _count_erased(connection: sa.Connection, state: State) -> int:
    """Return how many records of a state are gone: history and all were removed with them."""
    past = schema.history
    query = sa.select(past.c.action, sa.func.count()).where(past.c.seq < state.seq)
    query = query.group_by(past.c.action)
    count = {action: number for action, number in connection.execute(query)}
    left = count.get("add", 0) - count.get("delete", 0) + count.get("undelete", 0)
    return state.records - left
