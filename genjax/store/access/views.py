"""Show a principal only the rows that a rule allows, whatever statement reads them.

Every statement of a restricted connection begins with common table expressions that are named as
the tables, and so take their place: ``WITH records AS (SELECT ... FROM main.records WHERE ...)``.
They need no rights in the database, hold on read-only connections and replicas, and are not left
behind in a pool. Tables that are not named here are empty.

What is shown is whole, as a store is: no reference leads to a record that is not shown.

- A record without which another makes no sense takes that along: a hidden prompt hides its
  responses, a document its chunks and the answers made from them, a run its checkpoints, and
  anything hidden hides feedback and relations about it. Feedback on feedback or relations, and
  relations about these, are hidden.
- Other references to hidden records are empty, as is the session of a prompt; the generator of a
  synthetic record is "unknown".
- A link needs both of its ends, and a line of the history shows who and when, not what was before.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from genjax.errors import UserError
from genjax.store import schema
from genjax.store.access.roles import Rule, split_words
from genjax.store.records import KINDS, REFERS, UNKNOWN, own_fields

Condition = sa.ColumnElement[bool]
TOLD = ("seq", "record", "user", "time", "action")  # columns of the history that are shown
WHOLE = "genjax_whole"  # option of a statement that reads all rows: whether an id is taken, say
LEVELS = (  # kinds, each of which needs only records of the levels before
    ("session", "prompt", "document", "run", "dataset", "entity"),
    ("chunk", "checkpoint"),
    ("response",),
    ("relation", "feedback"),
)
NEEDS = {  # fields of a kind whose records must be shown, too
    "chunk": ("document",),
    "checkpoint": ("run",),
    "response": ("prompt",),
    "relation": ("subject", "object"),
    "feedback": ("target", "against"),
}
DERIVED = ("document", "chunk")  # an answer from a hidden one of these is hidden
SEEN = "seen"  # name of the records of all levels but the last
WORD = re.compile(r"\w+")
READS = ("SELECT", "WITH", "VALUES", "(")
WRITES = ("INSERT", "UPDATE", "DELETE")


def show_all(rules: Sequence[Rule]) -> bool:
    """Return whether one of the rules covers every record."""
    return all(any(_covers_kind(rule, kind) for rule in rules) for kind in KINDS)


def _covers_kind(rule: Rule, kind: str) -> bool:
    """Return whether a rule covers all records of a kind."""
    limits = (rule.origins, rule.datasets, rule.tags)
    free = all(split_words(words) == (frozenset(), frozenset()) for words in limits)
    return free and _names(rule, kind)


def _names(rule: Rule, kind: str) -> bool:
    wanted, left_out = split_words(rule.kinds)
    return kind not in left_out and (not wanted or kind in wanted)


@functools.lru_cache(256)
def compile_views(
    several: tuple[tuple[Rule, ...], ...], dialect: sa.Dialect, place: str
) -> Mapping[str, str] | None:
    """Return the table expressions by their names; None if everything is shown.

    Args:
      several: lists of rules, each of which must cover a record.
      dialect: dialect of the database.
      place: schema of the real tables.
    """
    limited = tuple(rules for rules in several if not show_all(rules))
    if not limited:
        return None
    made = Views(limited, place, dialect.name == "postgresql")
    parts = {}
    for name, query in made.build():
        text = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
        parts[name] = f"{name} AS NOT MATERIALIZED ({text})"
    return parts


def choose_views(views: Mapping[str, str], statement: str) -> str:
    """Return those expressions whose names a statement has anywhere, or another of them."""
    words = set(WORD.findall(statement.lower()))
    chosen: dict[str, str] = {}
    for name in reversed(list(views)):  # the later ones name the earlier
        if name in words:
            chosen[name] = views[name]
            words |= {SEEN} if f"FROM {SEEN} " in views[name] else set()
    return ",\n".join(views[name] for name in views if name in chosen)


class Views:
    """Builds the expressions from copies of the tables in the schema of the real ones."""

    def __init__(self, several: Sequence[Sequence[Rule]], place: str, postgres: bool) -> None:
        self._several, self._postgres = several, postgres
        copied = sa.MetaData(schema=place)
        self._real = {t.name: t.to_metadata(copied) for t in schema.metadata.tables.values()}
        self._own = {kind: self._real[table.name] for kind, table in schema.KINDS.items()}
        self._open = self._find_open()

    def build(self) -> Iterator[tuple[str, sa.Select[Any]]]:
        """Yield the name and query of each expression, those that others name first."""
        row = self._real["records"].alias()  # by a name, as SQLite does not parse deep nests
        kinds = [kind for some in LEVELS[:-1] for kind in some]
        yield SEEN, sa.select(row.c.id).where(self.see(row, kinds))
        yield "records", self._show_records()
        for kind in KINDS:
            yield schema.KINDS[kind].name, self._show_kind(kind)
        links, row = self._real["links"], self._real["records"].alias()
        ends = row.c.id.in_([links.c.child, links.c.parent])
        hidden = sa.select(sa.literal(1)).where(ends, sa.not_(self.see(row, KINDS)))
        yield "links", sa.select(*links.c).where(sa.not_(hidden.correlate(links).exists()))
        for name, told in (("history", TOLD), ("outbox", schema.outbox.c.keys())):
            table = self._real[name]
            columns: list[sa.ColumnElement[Any]] = [
                c if c.name in told else sa.null().label(c.name) for c in table.c
            ]
            yield name, sa.select(*columns).where(self._is_shown(table, "record", KINDS))
        shown = {"records", "links", "history", "outbox", *(t.name for t in schema.KINDS.values())}
        for name, table in self._real.items():
            if name not in shown:
                yield name, sa.select(*table.c).where(sa.false())

    def see(self, row: sa.FromClause, kinds: Iterable[str]) -> Condition:
        """Return the condition under which a row of the records is shown, if it is of a kind."""
        alike: dict[object, list[str]] = {}
        needs: list[Condition] = []
        for kind in kinds:
            alike.setdefault(self._name_limit(kind), []).append(kind)
            if kind not in self._open and (terms := self._need(row, kind)):
                needs.append(sa.or_(row.c.kind != kind, sa.and_(*terms)))
        limits = [
            sa.and_(row.c.kind.in_(some), *self._limit(row, some[0])) for some in alike.values()
        ]
        return sa.and_(sa.or_(*limits), *needs)

    def _name_limit(self, kind: str) -> object:
        """Return a value that is equal for kinds with the same limits."""
        return tuple(
            frozenset((r.origins, r.datasets, r.tags) for r in rules if _names(r, kind))
            for rules in self._several
        )

    def _find_open(self) -> set[str]:
        """Return the kinds whose records are all shown."""
        covered = {
            kind
            for kind in KINDS
            if all(any(_covers_kind(r, kind) for r in rules) for rules in self._several)
        }
        found = covered & set(LEVELS[0])
        found |= {k for k in covered & set(LEVELS[1]) if _kinds_needed(k) <= found}
        needed = _kinds_needed("response") | set(DERIVED)
        return found | (covered & {"response"} if needed <= found else set())

    def _limit(self, row: sa.FromClause, kind: str) -> list[Condition]:
        """Return the conditions of the rules alone."""
        terms = []
        for rules in self._several:
            if any(_covers_kind(rule, kind) for rule in rules):
                continue
            some = [self._cover(rule, row) for rule in rules if _names(rule, kind)]
            terms.append(sa.or_(sa.false(), *some))
        return terms

    def _cover(self, rule: Rule, row: sa.FromClause) -> Condition:
        terms: list[Condition] = [sa.true()]
        tests: tuple[tuple[Sequence[str], Callable[[Collection[str]], Condition]], ...] = (
            (rule.origins, row.c.origin.in_),
            (rule.tags, functools.partial(self._has_tag, row)),
            (rule.datasets, functools.partial(self._is_in, row)),
        )
        for words, has in tests:
            wanted, left_out = split_words(words)
            terms += [has(sorted(wanted))] if wanted else []
            terms += [sa.not_(has(sorted(left_out)))] if left_out else []
        return sa.and_(*terms)

    def _has_tag(self, row: sa.FromClause, tags: Collection[str]) -> Condition:
        if self._postgres:
            has = (sa.func.jsonb_exists(row.c.tags, tag) for tag in tags)
            return sa.or_(*(sa.func.coalesce(one, sa.false()) for one in has))
        each = sa.func.json_each(row.c.tags).table_valued("value").alias()
        return sa.select(sa.literal(1)).select_from(each).where(each.c.value.in_(tags)).exists()

    def _is_in(self, row: sa.FromClause, names: Collection[str]) -> Condition:
        """Return whether a data set that is not deleted was made from a record, or is it."""
        sets, links = self._own["dataset"].alias(), self._real["links"].alias()
        kept = self._real["records"].alias()
        named = sa.or_(sets.c.id.in_(names), sets.c.name.in_(names))
        linked = links.join(sets, sets.c.id == links.c.child).join(kept, kept.c.id == sets.c.id)
        member = sa.select(sa.literal(1)).select_from(linked)
        member = member.where(links.c.parent == row.c.id, named, kept.c.deleted.is_(None))
        itself = self._own["dataset"].alias()
        known = sa.or_(itself.c.id.in_(names), itself.c.name.in_(names))
        same = sa.select(sa.literal(1)).where(itself.c.id == row.c.id, known)
        is_same = sa.and_(row.c.kind == "dataset", same.correlate(row).exists())
        return sa.or_(is_same, member.correlate(row).exists())

    def _need(self, row: sa.FromClause, kind: str) -> list[Condition]:
        """Return the conditions that what a record needs is shown."""
        if kind not in NEEDS:
            return []
        level = next(number for number, kinds in enumerate(LEVELS) if kind in kinds)
        below = [one for kinds in LEVELS[:level] for one in kinds]
        kinds = _kinds_needed(kind)
        terms: list[Condition] = []
        if not kinds <= self._open:
            own = self._own[kind].alias()
            named: list[Any] = [own.c[field] for field in NEEDS[kind]]
            able = [one for one in below if one in kinds]

            def shown(other: sa.FromClause) -> Condition:
                if level < len(LEVELS) - 1:
                    return self.see(other, able)
                seen = sa.table(SEEN, sa.column("id")).alias()
                there = sa.select(sa.literal(1)).where(seen.c.id == other.c.id)
                return there.correlate(other).exists()

            terms.append(self._hides_none(row, own, named, shown))
        if kind == "response" and not set(DERIVED) <= self._open:
            links, source = self._real["links"].alias(), self._real["records"].alias()
            made = sa.select(sa.literal(1)).select_from(
                links.join(source, source.c.id == links.c.parent)
            )
            hidden = sa.not_(self.see(source, DERIVED))
            made = made.where(links.c.child == row.c.id, source.c.kind.in_(DERIVED), hidden)
            terms.append(sa.not_(made.correlate(row).exists()))
        return terms

    def _hides_none(
        self,
        row: sa.FromClause,
        own: sa.FromClause,
        named: Sequence[sa.ColumnElement[str]],
        shown: Callable[[sa.FromClause], Condition],
    ) -> Condition:
        """Return the condition that all records that a row of a kind names are shown."""
        other = self._real["records"].alias()
        hidden = sa.select(sa.literal(1)).select_from(own.join(other, other.c.id.in_(named)))
        hidden = hidden.where(own.c.id == row.c.id, sa.not_(shown(other)))
        return sa.not_(hidden.correlate(row).exists())

    def _show_records(self) -> sa.Select[Any]:
        row = self._real["records"].alias()
        columns: list[sa.ColumnElement[Any]] = [*row.c]
        if "run" not in self._open:
            there = self._is_shown(row, "generator", ("run",))
            known = sa.or_(row.c.generator.is_(None), there)
            masked = sa.case((known, row.c.generator), else_=UNKNOWN).label("generator")
            columns = [masked if c.name == "generator" else c for c in row.c]
        return sa.select(*columns).where(self.see(row, KINDS))

    def _show_kind(self, kind: str) -> sa.Select[Any]:
        """Return the rows of a kind; a reference to a hidden record is empty."""
        own = self._own[kind].alias()
        source: sa.FromClause = own
        columns: list[sa.ColumnElement[Any]] = []
        empty = [f.name for f in own_fields(kind) if REFERS in f.metadata]
        empty = [name for name in empty if name not in NEEDS.get(kind, ())]
        for column in own.c:
            kinds = _kinds_of(kind, column.name) if column.name in empty else ()
            if set(kinds) <= self._open:
                columns.append(column)
                continue
            # By a join, whose condition on its column still finds rows by an index.
            other = self._real["records"].alias()
            shown = sa.and_(other.c.id == column, self.see(other, kinds))
            source = source.outerjoin(other, shown)
            columns.append(other.c.id.label(column.name))
        query = sa.select(*columns).select_from(source)
        return query if kind in self._open else query.where(self._is_shown(own, "id", (kind,)))

    def _is_shown(self, table: sa.FromClause, name: str, kinds: Iterable[str]) -> Condition:
        """Return whether the record that a column names is shown."""
        row = self._real["records"].alias()
        there = sa.select(sa.literal(1)).where(row.c.id == table.c[name], self.see(row, kinds))
        return there.correlate(table).exists()


def _kinds_of(kind: str, field: str) -> tuple[str, ...]:
    """Return the kinds that a field may refer to."""
    found = next(f for f in own_fields(kind) if f.name == field)
    kinds: tuple[str, ...] = found.metadata[REFERS]
    return kinds or tuple(KINDS)


def _kinds_needed(kind: str) -> set[str]:
    return {one for field in NEEDS[kind] for one in _kinds_of(kind, field)}


@contextlib.contextmanager
def lift(connection: sa.Connection) -> Iterator[None]:
    """Let the store's own statements of a block read everything, such as those of its trail."""
    before = connection.get_execution_options().get(WHOLE, False)
    connection.execution_options(**{WHOLE: True})
    try:
        yield
    finally:
        connection.execution_options(**{WHOLE: before})


def restrict(connection: sa.Connection, views: Mapping[str, str], writes: bool = False) -> None:
    """Let a connection read nothing but what the views show, to its end.

    Statements that carry the option ``WHOLE`` read everything.

    Args:
      connection: the connection.
      views: expressions of ``compile_views``.
      writes: whether statements that insert, update or delete are let through.
    """
    known = (*READS, *WRITES) if writes else READS

    def rewrite(
        _: object, cursor: object, statement: str, parameters: Any, context: Any, many: bool
    ) -> tuple[str, Any]:
        if context is not None and context.execution_options.get(WHOLE):
            return statement, parameters
        begin = statement.lstrip().upper()
        word = next((word for word in known if begin.startswith(word)), None)
        if word is None:
            raise UserError("role: this statement takes one who may read everything", "role")
        if word in WRITES:
            return statement, parameters
        chosen = choose_views(views, statement)
        if not chosen:
            return statement, parameters
        if word == "WITH":
            rest = statement.lstrip()[len("WITH") :].lstrip()
            recursive = rest.upper().startswith("RECURSIVE")
            rest = rest[len("RECURSIVE") :] if recursive else rest
            return f"WITH {'RECURSIVE ' if recursive else ''}{chosen},\n{rest}", parameters
        return f"WITH {chosen}\n{statement}", parameters

    listen: Callable[..., None] = event.listen
    listen(connection, "before_cursor_execute", rewrite, retval=True)
