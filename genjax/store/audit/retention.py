"""Keep records as long as rules say, and erase them then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from genjax.errors import UserError, unknown_name
from genjax.store import schema
from genjax.store.audit import chain
from genjax.store.audit.closure import Closure, find_closure
from genjax.store.audit.forgetting import erase_plan, finish, make_plan, shorten
from genjax.store.audit.purging import list_indexes
from genjax.store.filters import All, Compare, Filter, parse_filter
from genjax.store.lookups import find_ids
from genjax.store.query import Query
from genjax.store.records import Wanted
from genjax.store.rows import MICROSECOND, insert, now, to_time
from genjax.store.store import Store

AHEAD = timedelta(days=366)  # a clock further ahead of the newest link is not trusted


@dataclass(frozen=True)
class Rule:
    """Which records are erased.

    Attributes:
      name: name of the rule.
      kind: kind of the records; None for all.
      origin: "real", "synthetic" or "any".
      days: least age in days, by the time of the record; None for any.
      tag: a tag of the records; None for any.
      filter: a filter of the records.
      dependants: whether records that cannot be without them go along; if not, records that
        others need stay.
      all: whether the rule may reach every record.
    """

    name: str
    kind: str | None = None
    origin: Wanted = "any"
    days: float | None = None
    tag: str | None = None
    filter: str = ""
    dependants: bool = False
    all: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise UserError("name of a rule must not be empty", "name")
        if self.days is not None and not 0 <= self.days < 1e6:
            raise UserError(f"days must be >= 0 and < 1,000,000, got {self.days}", "days")
        parse_filter(self.filter)
        Query(All(()), self.kind, self.origin)
        open_ = (self.kind, self.days, self.tag) == (None, None, None) and self.origin == "any"
        if open_ and parse_filter(self.filter) == All(()) and not self.all:
            raise UserError(f"rule {self.name} matches every record: give all if so meant", "all")

    def find(self, connection: sa.Connection, moment: int) -> list[str]:
        """Return the records that the rule matches, hidden ones too."""
        parts: list[Filter] = [parse_filter(self.filter)]
        if self.days is not None:
            before = to_time(moment - timedelta(days=self.days) // MICROSECOND)
            parts.append(Compare("time", "<=", before))
        if self.tag is not None:
            parts.append(Compare("tags", ":", self.tag))
        tree = All(tuple(parts))
        return [
            one
            for deleted in (False, True)
            for one in find_ids(
                connection, Query(tree, self.kind, self.origin, "time", deleted), None
            )
        ]


@dataclass(frozen=True)
class Reached:
    """What a rule reaches.

    Attributes:
      rule: the rule.
      closure: the records that go, with those that go along.
      held: records that stay because others need them, with these.
    """

    rule: Rule
    closure: Closure
    held: Mapping[str, Sequence[str]]

    def describe(self) -> list[str]:
        """Return lines for the user."""
        closure = self.closure
        lines = [f"rule      {self.rule.name}: {len(closure.ids):,} records"]
        lines += [f"  {count:,} {kind}" for kind, count in sorted(closure.kinds.items())]
        if closure.dependants:
            lines.append(f"  {len(closure.dependants):,} of these go along with others")
        dangling = (f"  dangling: {e.role} of {e.child} is {e.parent}" for e in closure.dangling)
        kept = (
            f"  kept: {one}, as {', '.join(shorten(others, 5))} cannot be without it"
            for one, others in self.held.items()
        )
        return [*lines, *shorten(dangling), *shorten(kept)]


def add_rule(store: Store, rule: Rule) -> None:
    """Add a rule.

    Raises:
      UserError: there is one of this name, or its filter names an unknown field.
    """
    table = schema.retention
    Query(rule.filter, rule.kind, rule.origin).compile(postgres=store.is_postgres)
    with store.writing() as connection:
        if rule.name in _read(connection):
            raise UserError(f"name must be new, rule {rule.name} is there: remove it first", "name")
        insert(connection, table, [{"name": rule.name, "rule": asdict(rule)}])
        chain.note(connection, "add rule", store.user, asdict(rule))


def remove_rule(store: Store, name: str) -> None:
    """Remove a rule.

    Raises:
      UserError: there is none of this name.
    """
    table = schema.retention
    with store.writing() as connection:
        known = _read(connection)
        if name not in known:
            raise unknown_name("rule", name, known)
        connection.execute(table.delete().where(table.c.name == name))
        chain.note(connection, "remove rule", store.user, {"name": name})


def list_rules(store: Store) -> list[Rule]:
    """Return the rules by their names."""
    with store.reading() as connection:
        return list(_read(connection).values())


def _read(connection: sa.Connection) -> dict[str, Rule]:
    table = schema.retention
    query = sa.select(table).order_by(table.c.name)
    return {row.name: Rule(**row.rule) for row in connection.execute(query)}


def retain(
    store: Store,
    do: bool = False,
    *,
    trust_clock: bool = False,
    exports: bool = False,
    say: Callable[[str], None] = print,
) -> list[Reached]:
    """Say what each rule reaches, and erase it.

    Args:
      store: the store.
      do: whether to erase.
      trust_clock: whether the clock is right though it is far from the newest change.
      exports: whether to take the records out of exports and data sets, too.
      say: a function that gets a line on each step.

    Raises:
      UserError: a rule matches every record and does not say so, or the clock has jumped.
    """
    moment = now()
    if do:
        finish(store, say)
    place = list_indexes(store) if do else []
    with store.writing() if do else store.reading() as connection:
        _check_clock(connection, moment, trust_clock)
        reached = [_reach(connection, rule, moment) for rule in _read(connection).values()]
        for line in (line for one in reached for line in one.describe()):
            say(line)
        ids = list(dict.fromkeys(one for each in reached for one in each.closure.ids))
        if not do or not ids:
            return reached
        plan = make_plan(connection, ids, indexes=place)
        said: Any = {one.rule.name: len(one.closure.ids) for one in reached}
        chain.note(connection, "retention", store.user, said)
        erase_plan(connection, store, plan, exports)
    for line in plan.describe():
        say(line)
    finish(store, say, again=False)
    return reached


def _check_clock(connection: sa.Connection, moment: int, trusted: bool) -> None:
    """Refuse a clock that has jumped, by which records would seem older than they are.

    Raises:
      UserError: it has.
    """
    newest = chain.read_head(connection).time
    far = to_time(max(moment, newest)) - to_time(min(moment, newest))
    if not newest or trusted:
        return
    if moment < newest or far > AHEAD:
        way = "behind" if moment < newest else "ahead of"
        cure = "set it, or give --trust-clock"
        raise UserError(f"clock is {far} {way} the newest change: {cure}", "trust-clock")


def _reach(connection: sa.Connection, rule: Rule, moment: int) -> Reached:
    ids = rule.find(connection, moment)
    total = connection.execute(sa.select(sa.func.count()).select_from(schema.records)).scalar_one()
    if len(ids) == total > 1 and not rule.all:
        raise UserError(
            f"rule {rule.name} matches every record: add it again with --all if so meant", "all"
        )
    closure = find_closure(connection, ids)
    held: dict[str, list[str]] = {}
    while not rule.dependants and closure.dependants:
        held |= closure.find_held()
        ids = [one for one in ids if one not in held]
        closure = find_closure(connection, ids)
    return Reached(rule, closure, held)
