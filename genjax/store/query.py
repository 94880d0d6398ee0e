"""Translate filters and orders of records to SQL, with bound and typed values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from genjax.errors import UserError, unknown_name
from genjax.store import schema
from genjax.store.filters import All, Any_, Compare, Filter, Not, Value, parse_filter
from genjax.store.privacy.columns import Comparable, Sealed, User, find_plain
from genjax.store.records import KINDS, Wanted
from genjax.store.rows import to_number

Column = sa.ColumnElement[Any]
Condition = sa.ColumnElement[bool]
ORIGINS = ("real", "synthetic", "any")
HIDDEN = ("deleted",)
SCORE = "score"  # the value of a record's feedback; score.NAME for feedback with a name


@dataclasses.dataclass(frozen=True)
class Query:
    """A query for records.

    Attributes:
      filter: a tree, or its text.
      kind: kind of the records; None for all kinds.
      origin: "real", "synthetic" or "any".
      order: name of a field to sort by; "-" before it reverses the order.
      deleted: whether to find deleted records instead.
    """

    filter: Filter | str = All(())
    kind: str | None = None
    origin: Wanted = "real"
    order: str = "time"
    deleted: bool = False

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise UserError(f"origin must be one of {', '.join(ORIGINS)}", "origin")
        if self.kind is not None and self.kind not in KINDS:
            raise unknown_name("kind", str(self.kind), KINDS)

    def compile(self, *columns: Column, postgres: bool) -> tuple[sa.Select[Any], Column, bool]:
        """Return a statement that selects columns, the column to sort by, and whether in descending
        order.
        """
        compiler = _Compiler(self.kind, postgres)
        tree = parse_filter(self.filter) if isinstance(self.filter, str) else self.filter
        records = schema.records
        terms: list[Condition] = [
            records.c.deleted.is_not(None) if self.deleted else records.c.deleted.is_(None)
        ]
        if self.origin != "any":
            terms.append(records.c.origin == self.origin)
        if self.kind is not None:
            terms.append(records.c.kind == self.kind)
        terms.append(compiler.compile(tree))
        by, down = self.order.removeprefix("-"), self.order.startswith("-")
        column = compiler.find(by, "order")
        if column is None or isinstance(column.type, sa.JSON):
            raise UserError(f"order must be a field with one value, got {by!r}", "order")
        return (
            sa.select(*columns).select_from(compiler.join()).where(*terms),
            column,
            down,
        )

    def refuse_encrypted(self, engine: sa.Engine) -> None:
        """Refuse a filter or order on fields that the store of an engine encrypts.

        Raises:
          UserError: there is one; the field is "filter".
        """
        statement, by, _ = self.compile(
            schema.records.c.id, postgres=engine.dialect.name == "postgresql"
        )
        statement.order_by(by).compile(dialect=engine.dialect)


def sort(query: sa.Select[Any], column: Column, down: bool) -> sa.Select[Any]:
    """In the order of a column and, where that is equal, of ids; what lacks it comes last."""
    both = (column, schema.records.c.id)
    if column is schema.records.c.time or column is schema.records.c.id:
        return query.order_by(*(one.desc() if down else one for one in both))
    return query.order_by(column.is_(None), *(one.desc() if down else one for one in both))


def follow(column: Column, down: bool, value: Any, last: str) -> Condition:
    """Return the condition for records after a given one, by value and id."""
    own = schema.records.c.id
    beyond = own < last if down else own > last
    if value is None:
        return sa.and_(column.is_(None), beyond)
    further = column < value if down else column > value
    return sa.or_(further, column.is_(None), sa.and_(column == value, beyond))


class _Compiler:
    """Translates one filter into a condition, and remembers which tables it reads."""

    def __init__(self, kind: str | None, postgres: bool) -> None:
        self._kind, self._postgres = kind, postgres
        self._joined: dict[str, sa.Table] = {}

    def join(self) -> sa.FromClause:
        found: sa.FromClause = schema.records
        for kind, table in self._joined.items():
            same = table.c.id == schema.records.c.id
            found = found.join(table, same, isouter=kind != self._kind)
        return found

    def compile(self, tree: Filter) -> Condition:
        if isinstance(tree, All):
            return sa.and_(sa.true(), *(self.compile(part) for part in tree.parts))
        if isinstance(tree, Any_):
            return sa.or_(sa.false(), *(self.compile(part) for part in tree.parts))
        if isinstance(tree, Not):  # what is missing is not equal, so that its opposite holds
            return sa.not_(sa.func.coalesce(self.compile(tree.part), sa.false()))
        return self._compare(tree)  # without a wrapper, so that the database can use an index

    def find(self, name: str, what: str = "filter") -> Column | None:
        """Return the column of a field; None if it is in a separate table."""
        if name in ("parents", SCORE):
            return None
        if name in schema.records.c and name not in HIDDEN:
            return _make_comparable(schema.records.c[name])
        tables = [self._kind] if self._kind is not None else list(KINDS)
        there = [kind for kind in tables if name in schema.KINDS[kind].c]
        if not there:
            own = {c.name for kind in tables for c in schema.KINDS[kind].c}
            known = own | {c.name for c in schema.records.c} | {"parents", SCORE}
            error = unknown_name("field", name, known - set(HIDDEN))
            raise UserError(f"{what}: {error}", what)
        self._joined |= {kind: schema.KINDS[kind] for kind in there}
        columns = [_make_comparable(schema.KINDS[kind].c[name]) for kind in there]
        return (
            columns[0] if len(columns) == 1 else sa.func.coalesce(*columns, type_=columns[0].type)
        )

    def _compare(self, term: Compare) -> Condition:
        name, *path = term.field.split(".")
        if name == SCORE:
            return self._compare_score(term, ".".join(path))
        column = self.find(name)
        if column is None:
            return self._compare_parents(term)
        if isinstance(column.type, sa.JSON):
            return self._compare_json(term, column, path)
        if path:
            raise UserError(f"filter: {name} has no {'.'.join(path)!r} in it", "filter")
        return _compare_column(term, column, self._postgres)

    def _compare_parents(self, term: Compare) -> Condition:
        if term.op != ":" or not isinstance(term.value, str):
            raise UserError("filter: parents:ID finds what was made from a record", "filter")
        links = schema.links
        made = sa.select(links.c.child).where(
            links.c.child == schema.records.c.id, links.c.parent == term.value
        )
        return made.correlate(schema.records).exists()

    def _compare_score(self, term: Compare, name: str) -> Condition:
        # One set of ids for all records: a subquery for each is slow where a planner errs.
        judged, own = schema.KINDS["feedback"].alias(), schema.records.alias()
        query = sa.select(judged.c.target).join(own, own.c.id == judged.c.id)
        query = query.where(
            judged.c.valid.is_(sa.true()),
            judged.c.value.is_not(None),
            own.c.deleted.is_(None),
        )
        if name:
            query = query.where(judged.c.name == name)
        if term.value is None:
            found = schema.records.c.id.in_(query)
            return sa.not_(found) if term.op == "=" else found
        negated = term.op == "!="
        same = dataclasses.replace(term, op="=") if negated else term
        query = query.where(_compare_column(same, judged.c.value, self._postgres))
        found = schema.records.c.id.in_(query)
        return sa.not_(found) if negated else found

    def _compare_json(self, term: Compare, column: Column, path: Sequence[str]) -> Condition:
        if isinstance(term.value, datetime):
            cure = "write it in quotes, texts are compared as they stand"
            raise UserError(
                f"filter: {term.field} cannot be compared with a time: {cure}", "filter"
            )
        if isinstance(term.value, bool) and term.op not in ("=", "!=", ":"):
            raise UserError(f"filter: true and false go with = != :, got {term.op!r}", "filter")
        compare = _postgres_json if self._postgres else _sqlite_json
        if term.op == "!=":
            same = compare(dataclasses.replace(term, op="="), column, path)
            return sa.not_(sa.func.coalesce(same, sa.false()))
        return compare(term, column, path)


def _make_comparable(column: sa.Column[Any]) -> Column:
    return Comparable(column) if isinstance(column.type, Sealed) else column


def _compare_column(term: Compare, column: Column, postgres: bool) -> Condition:
    if term.value is None:
        return column.is_(None) if term.op == "=" else column.is_not(None)
    if term.op == ":":
        if not isinstance(find_plain(column), sa.Text) or not isinstance(term.value, str):
            raise UserError(f"filter: {term.field}: finds a text within a text", "filter")
        find = sa.func.strpos if postgres else sa.func.instr
        return find(column, sa.literal(term.value, sa.Text)) > 0
    left, right = _match_types(term, column)
    found = apply(term.op, left, right)
    return sa.or_(found, column.is_(None)) if term.op == "!=" else found


def _match_types(term: Compare, column: Column) -> tuple[Column, Column]:
    """Both sides as one type."""
    value = term.value
    if term.field == "time":
        if not isinstance(value, datetime):
            raise UserError("filter: time must be compared with a date or time", "filter")
        return column, sa.literal(to_number(value), sa.BigInteger)
    if isinstance(column.type, sa.Boolean):
        if not isinstance(value, bool) or term.op not in ("=", "!="):
            raise UserError(f"filter: {term.field} is true or false", "filter")
        return column, sa.literal(value, sa.Boolean)
    if isinstance(find_plain(column), sa.Text):
        if not isinstance(value, str):
            cure = "write it in quotes"
            raise UserError(f"filter: {term.field} is a text, {value!r} is not: {cure}", "filter")
        named = isinstance(column.type, User)  # a name is compared by its pseudonym
        return column, sa.literal(value, column.type if named else sa.Text())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"filter: {term.field} is a number, {value!r} is not", "filter")
    if isinstance(value, int) and isinstance(column.type, sa.BigInteger):
        return column, sa.literal(value, sa.BigInteger)
    if isinstance(column.type, sa.Double):
        return column, sa.literal(float(value), sa.Double)
    return sa.cast(column, sa.Double), sa.literal(float(value), sa.Double)


def apply(op: str, left: Column, right: Column) -> Condition:
    """Apply one of = != < <= > >= to two columns."""
    found = {
        "=": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[op]
    return found


def _sqlite_json(term: Compare, column: Column, path: Sequence[str]) -> Condition:
    place = sa.literal("$" + "".join(f'."{part}"' for part in path), sa.Text)
    kind = sa.func.json_type(column, place, type_=sa.Text())
    value = sa.func.json_extract(column, place)
    if term.value is None:
        missing = sa.or_(kind.is_(None), kind == "null")
        return missing if term.op == "=" else sa.not_(missing)
    if term.op == ":":
        each = sa.func.json_each(column, place).table_valued("value", "type")
        within = _is_sqlite_value(each.c.type, each.c.value, "=", term.value)
        listed = sa.select(each.c.value).where(within).exists()
        found = sa.and_(kind == "array", listed)
        if isinstance(term.value, str):
            inside = sa.func.instr(value, sa.literal(term.value, sa.Text)) > 0
            found = sa.or_(found, sa.and_(kind == "text", inside))
        return found
    return _is_sqlite_value(kind, value, term.op, term.value)


def _is_sqlite_value(kind: Column, column: Column, op: str, value: Value) -> Condition:
    if isinstance(value, bool):
        return kind == ("true" if value else "false")
    if isinstance(value, str):
        return sa.and_(kind == "text", apply(op, column, sa.literal(value, sa.Text)))
    number = sa.literal(value, sa.BigInteger if isinstance(value, int) else sa.Double)
    return sa.and_(kind.in_(("integer", "real")), apply(op, column, number))


def _postgres_json(term: Compare, column: Column, path: Sequence[str]) -> Condition:
    place = sa.cast(sa.literal(list(path), postgresql.ARRAY(sa.Text)), postgresql.ARRAY(sa.Text))
    found: Column = column.op("#>", return_type=postgresql.JSONB())(place)
    kind = sa.func.jsonb_typeof(found, type_=sa.Text())
    empty = sa.cast(sa.literal([], postgresql.ARRAY(sa.Text)), postgresql.ARRAY(sa.Text))
    text: Column = found.op("#>>", return_type=sa.Text())(empty)
    value = term.value
    if value is None:
        missing = sa.or_(kind.is_(None), kind == "null")
        return missing if term.op == "=" else sa.not_(missing)
    if term.op == ":":
        listed = found.op("@>", return_type=sa.Boolean())(sa.literal(value, postgresql.JSONB()))
        within = sa.and_(kind == "array", listed)
        if isinstance(value, str):
            inside = sa.func.strpos(text, sa.literal(value, sa.Text)) > 0
            within = sa.or_(within, sa.and_(kind == "string", inside))
        return within
    if isinstance(value, bool):
        return sa.and_(kind == "boolean", text == ("true" if value else "false"))
    if isinstance(value, str):
        return sa.and_(kind == "string", apply(term.op, text, sa.literal(value, sa.Text)))
    number = sa.case((kind == "number", sa.cast(text, sa.Double)))
    return apply(term.op, number, sa.literal(float(cast(float, value)), sa.Double))
