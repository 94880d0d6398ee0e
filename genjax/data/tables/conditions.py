"""Conditions on the columns of a table, as text: ``income='>50K' and age>=30``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genjax.errors import UserError, unknown_name

Columns = Mapping[str, np.ndarray]

QUOTED = r"'[^']*'|\"[^\"]*\""
COMPARISON = re.compile(
    r"\s*(?P<name>\"[^\"]+\"|[^=<>!\"']+?)\s*"
    r"(?P<operator><=|>=|!=|==|=|<|>|\bnot\s+in\b|\bin\b)\s*(?P<value>.+?)\s*",
    re.DOTALL | re.IGNORECASE,
)
FORM = "age >= 30, sex = 'Male', job in ('Sales', 'Tech'), age in [17, 90], joined by and"


@dataclass(frozen=True)
class Comparison:
    """A condition on one column.

    Attributes:
      column: name of the column.
      operator: "<", "<=", ">" or ">=" for numbers; "in" or "not in" for all columns.
      values: numbers, or categories as the table has them; one for "<", "<=", ">" and ">=".
    """

    column: str
    operator: str
    values: tuple[float, ...] | tuple[str, ...]

    def holds(self, columns: Columns) -> np.ndarray:
        """Return for each row of the columns [N] whether it holds, bool [N]; not for a missing
        value.
        """
        cells = columns[self.column]
        if cells.dtype.kind != "f":
            among = np.array([cell in self.values for cell in cells], bool)
            known = np.array([cell is not None for cell in cells], bool)
            return known & (among if self.operator == "in" else ~among)
        known, first = ~np.isnan(cells), self.values[0]
        with np.errstate(invalid="ignore"):
            match self.operator:
                case "<":
                    found = cells < first
                case "<=":
                    found = cells <= first
                case ">":
                    found = cells > first
                case ">=":
                    found = cells >= first
                case "in":
                    found = np.isin(cells, self.values)
                case _:
                    found = ~np.isin(cells, self.values)
        return known & found


@dataclass(frozen=True)
class Condition:
    """Comparisons that must all hold.

    Attributes:
      text: the condition as written.
      comparisons: its comparisons.
    """

    text: str
    comparisons: tuple[Comparison, ...]

    def holds(self, columns: Columns) -> np.ndarray:
        """Return for each row of the columns [N] whether all comparisons hold, bool [N]."""
        found = np.ones(len(next(iter(columns.values()))), bool)
        for comparison in self.comparisons:
            found &= comparison.holds(columns)
        return found


def parse_condition(
    text: str, columns: Mapping[str, Sequence[str] | None], field: str
) -> Condition:
    """Parse a condition.

    Args:
      text: comparisons joined by "and": ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in (a, b)``,
        ``not in (a, b)`` and, for numbers, ``in [low, high]``. Names and values with signs or
        blanks may be in quotes.
      columns: the values of each column of categories, None for one of numbers; blanks around a
        value are ignored.
      field: option that the text comes from, for messages.

    Raises:
      UserError: the text has another form, or a column or a value is unknown; the message has the
        nearest name.
    """
    found: list[Comparison] = []
    for part in split_outside_quotes(text, r"\s+and\s+"):
        found += _parse_comparison(part, columns, field)
    return Condition(text.strip(), tuple(found))


def split_outside_quotes(text: str, separator: str) -> Iterator[str]:
    """Yield the parts of a text between separators, a regular expression, that are not in
    quotes.
    """
    begin = 0
    for match in re.finditer(rf"{QUOTED}|(?P<separator>{separator})", text, re.IGNORECASE):
        if match["separator"]:
            yield text[begin : match.start()]
            begin = match.end()
    yield text[begin:]


def find_column(name: str, columns: Mapping[str, object], field: str) -> str:
    """Return the column of this name, which may be in quotes.

    Raises:
      UserError: there is none; the message has the nearest names.
    """
    bare = name.strip()
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        bare = bare[1:-1]
    if bare not in columns:
        raise UserError(f"{field}: {unknown_name('column', bare, tuple(columns))}", field)
    return bare


def _parse_comparison(
    text: str, columns: Mapping[str, Sequence[str] | None], field: str
) -> Iterator[Comparison]:
    match = COMPARISON.fullmatch(text)
    if match is None:
        raise UserError(f"{field} must be comparisons such as {FORM}; got {text.strip()!r}", field)
    column = find_column(match["name"], columns, field)
    operator = " ".join(match["operator"].lower().split())
    value, known = match["value"].strip(), columns[column]
    if operator == "in" and value[0] + value[-1] == "[]":
        if known is not None:
            raise UserError(
                f"{field}: column {column!r} holds categories: give them in parentheses, "
                f"got {text.strip()!r}",
                field,
            )
        ends = [_number(end, column, field) for end in value[1:-1].split(",")]
        if len(ends) != 2 or not ends[0] <= ends[1]:
            raise UserError(f"{field}: a range must be [low, high], got {value!r}", field)
        yield Comparison(column, ">=", (ends[0],))
        yield Comparison(column, "<=", (ends[1],))
        return
    several = operator in ("in", "not in")
    if several and value[0] + value[-1] != "()":
        raise UserError(f"{field}: values must be in parentheses, got {value!r}", field)
    values = list(split_outside_quotes(value[1:-1], ",")) if several else [value]
    operator = {"=": "in", "==": "in", "!=": "not in"}.get(operator, operator)
    if known is None:
        yield Comparison(column, operator, tuple(_number(one, column, field) for one in values))
    elif operator in ("in", "not in"):
        yield Comparison(
            column, operator, tuple(_category(one, column, known, field) for one in values)
        )
    else:
        raise UserError(
            f"{field}: column {column!r} holds categories, which {operator!r} cannot compare", field
        )


def _number(text: str, column: str, field: str) -> float:
    try:
        value = float(_unquote(text))
    except ValueError:
        value = np.nan
    if np.isnan(value):
        raise UserError(
            f"{field}: column {column!r} holds numbers, got {_unquote(text)!r}", field
        ) from None
    return value


def _category(text: str, column: str, known: Sequence[str], field: str) -> str:
    wanted = _unquote(text)
    if wanted in known:
        return wanted
    bare = {value.strip(): value for value in known}
    if wanted.strip() in bare:
        return bare[wanted.strip()]
    raise UserError(
        f"{field}: {unknown_name(f'value of {column!r}', wanted.strip(), tuple(bare))}", field
    )


def _unquote(text: str) -> str:
    bare = text.strip()
    quoted = len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\""
    return bare[1:-1] if quoted else bare
