"""Types of columns that encrypt on the way into a database and decrypt on the way out.

Whatever statement reads or writes a column passes its type, so that none can forget it. The guard
of a store belongs to its engine, and is found by the engine's dialect.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from genjax.errors import UserError
from genjax.store.privacy.guard import Guard
from genjax.store.privacy.plan import DIGEST, Plan

Convert = Callable[[Any], Any]
NONE = Guard(Plan())
_GUARDS: weakref.WeakKeyDictionary[Dialect, Guard] = weakref.WeakKeyDictionary()


def attach(engine: sa.Engine, guard: Guard) -> None:
    """Give an engine its guard, before it reads or writes records."""
    _GUARDS[engine.dialect] = guard


def find_guard(dialect: Dialect) -> Guard:
    """Return the guard of an engine's dialect."""
    return _GUARDS.get(dialect, NONE)


class _Protected(TypeDecorator[Any]):
    """A type with another one below it."""

    impl = sa.Text

    def __init__(self, column: str, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.column, self.of = column, of
        self.impl = of  # type: ignore[assignment]


class Sealed(_Protected):
    """A text or JSON that is encrypted in stores that say so."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Convert | None:
        """See ``TypeDecorator``."""
        inner: Convert | None = self.impl_instance.bind_processor(dialect)
        guard = find_guard(dialect)
        if self.column not in guard.sealed:
            return inner

        def bind(value: Any) -> Any:
            if value is not None:
                value = self.seal(guard, value)
            return value if inner is None else inner(value)

        return bind

    def result_processor(self, dialect: Dialect, coltype: Any) -> Convert | None:
        """See ``TypeDecorator``."""
        inner: Convert | None = self.impl_instance.result_processor(dialect, coltype)
        guard = find_guard(dialect)
        if self.column not in guard.sealed:
            return inner

        def read(value: Any) -> Any:
            try:
                found = value if inner is None else inner(value)
            except ValueError:
                found = value
            return None if found is None else self._open(guard, found)

        return read

    def seal(self, guard: Guard, value: Any) -> str:
        """Encrypt a value."""
        return guard.seal(self.column, value)

    def _open(self, guard: Guard, value: Any) -> Any:
        return guard.open(self.column, value)


class Digest(Sealed):
    """The hash of a blob, encrypted the same way each time."""

    cache_ok = True

    def __init__(self, of: TypeEngine[Any], column: str = DIGEST) -> None:
        super().__init__(column, of)

    def seal(self, guard: Guard, value: Any) -> str:
        """See ``Sealed``."""
        return guard.seal_digest(value)

    def _open(self, guard: Guard, value: Any) -> Any:
        return guard.open_digest(value)


class User(_Protected):
    """The name of a user, replaced by a pseudonym in stores that say so."""

    cache_ok = True

    def __init__(self, of: TypeEngine[Any], column: str = "user") -> None:
        super().__init__(column, of)

    def bind_processor(self, dialect: Dialect) -> Convert | None:
        """See ``TypeDecorator``."""
        inner: Convert | None = self.impl_instance.bind_processor(dialect)
        guard = find_guard(dialect)

        def bind(value: Any) -> Any:
            if value is not None and guard.plan.pseudonyms:
                value = guard.name_user(value)
            return value if inner is None else inner(value)

        return bind

    def result_processor(self, dialect: Dialect, coltype: Any) -> Convert | None:
        """See ``TypeDecorator``."""
        found: Convert | None = self.impl_instance.result_processor(dialect, coltype)
        return found


def protect(dialect: Dialect, column: sa.Column[Any], values: Sequence[Any]) -> Sequence[Any]:
    """Return values of a column, JSON as text, as they are written without its type."""
    kind, guard = column.type, find_guard(dialect)
    if isinstance(kind, User) and guard.plan.pseudonyms:
        return [one and guard.name_user(one) for one in values]
    if not isinstance(kind, Sealed) or kind.column not in guard.sealed:
        return values
    if isinstance(kind.of, sa.JSON):
        return [one and json.dumps(kind.seal(guard, json.loads(one))) for one in values]
    return [None if one is None else kind.seal(guard, one) for one in values]


def find_plain(column: sa.ColumnElement[Any]) -> TypeEngine[Any]:
    """Return the type of a column without what protects it."""
    return column.type.of if isinstance(column.type, _Protected) else column.type


def is_sealed(connection: sa.Connection, column: sa.ColumnElement[Any]) -> bool:
    """Return whether a store encrypts a column."""
    kind = column.type
    return isinstance(kind, Sealed) and kind.column in find_guard(connection.dialect).sealed


class Comparable(FunctionElement[Any]):
    """A column in a filter or order, which is refused where the store encrypts it."""

    inherit_cache = True
    name = "comparable"

    def __init__(self, column: sa.ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = find_plain(column)


class Start(FunctionElement[str]):
    """The first characters of a text; the whole of an encrypted one, which the caller cuts."""

    inherit_cache = True
    name = "start"

    def __init__(self, column: sa.ColumnElement[Any], size: int) -> None:
        super().__init__(column, sa.literal(size, sa.Integer))
        self.type = column.type


class Length(FunctionElement[int]):
    """The length of a text; null of an encrypted one."""

    inherit_cache = True
    name = "length"
    type = sa.BigInteger()


def _find_sealed(element: FunctionElement[Any], compiler: Any) -> str | None:
    """Return the name of the encrypted column that an element begins with, if it does."""
    column = next(iter(element.clauses))
    kind = column.type
    if isinstance(kind, Sealed) and kind.column in find_guard(compiler.dialect).sealed:
        return kind.column
    return None


@compiles(Comparable)
def _compile_comparable(element: Comparable, compiler: Any, **kw: Any) -> str:
    if (name := _find_sealed(element, compiler)) is not None:
        why = "is encrypted in this store: it can neither be compared nor ordered"
        raise UserError(f"filter: {name} {why}", "filter")
    return str(compiler.process(element.clauses, **kw))


@compiles(Start)
def _compile_start(element: Start, compiler: Any, **kw: Any) -> str:
    column, size = element.clauses
    if _find_sealed(element, compiler) is not None:
        return str(compiler.process(column, **kw))
    return f"substr({compiler.process(column, **kw)}, 1, {compiler.process(size, **kw)})"


@compiles(Length)
def _compile_length(element: Length, compiler: Any, **kw: Any) -> str:
    if _find_sealed(element, compiler) is not None:
        return "NULL"
    return f"length({compiler.process(element.clauses, **kw)})"
