"""Constraints that the rows of a table keep, and that samples must keep, as text.

Three forms: a condition on every row, such as ``age in [17, 90]``; an implication, such as
``if education='Bachelors' then education-num=13``; and a sum of columns, ``net + tax = gross``.
Sums hold by construction: the total is not modelled but added up. Samples that break another
constraint are drawn again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genjax.data.tables.conditions import (
    QUOTED,
    Columns,
    Condition,
    find_column,
    parse_condition,
    split_outside_quotes,
)
from genjax.errors import UserError

FIELD = "constraints"


@dataclass(frozen=True)
class Implication:
    """A condition that holds wherever another does.

    Attributes:
      text: the constraint as written.
      premise: where it applies; None for every row in which the columns of ``conclusion`` are
        known.
      conclusion: what holds there.
    """

    text: str
    premise: Condition | None
    conclusion: Condition

    def holds(self, columns: Columns) -> np.ndarray:
        """Return for each row of the columns [N] whether it keeps the constraint, bool [N]."""
        kept = self.conclusion.holds(columns)
        if self.premise is not None:
            return kept | ~self.premise.holds(columns)
        for comparison in self.conclusion.comparisons:
            cells = columns[comparison.column]
            kept |= (
                np.isnan(cells)
                if cells.dtype.kind == "f"
                else np.array([cell is None for cell in cells], bool)
            )
        return kept


@dataclass(frozen=True)
class Sum:
    """A column of numbers that is the sum of others.

    Attributes:
      total: name of the column.
      parts: names of the columns that it adds up.
    """

    total: str
    parts: tuple[str, ...]

    def add(self, columns: Columns) -> np.ndarray:
        """Return the total float64 [N] of the parts [N]; NaN where one is missing."""
        return np.sum([columns[name] for name in self.parts], axis=0)


@dataclass(frozen=True)
class Constraints:
    """The constraints of a table.

    Attributes:
      sums: columns that are sums of others.
      implications: conditions, of all rows or of some.
    """

    sums: tuple[Sum, ...] = ()
    implications: tuple[Implication, ...] = ()

    @property
    def totals(self) -> frozenset[str]:
        """Names of the columns that are sums."""
        return frozenset(one.total for one in self.sums)

    def holds(self, columns: Columns) -> np.ndarray:
        """Return for each row of the columns [N] whether it keeps all but the sums, bool [N]."""
        found = np.ones(len(next(iter(columns.values()))), bool)
        for implication in self.implications:
            found &= implication.holds(columns)
        return found


def list_values(columns: Columns) -> dict[str, tuple[str, ...] | None]:
    """Return the values of each column of categories, None for one of numbers."""
    return {
        name: None
        if cells.dtype.kind == "f"
        else tuple(sorted({cell for cell in cells if cell is not None}))
        for name, cells in columns.items()
    }


def parse_constraints(
    texts: Sequence[str], columns: Mapping[str, Sequence[str] | None]
) -> Constraints:
    """Parse constraints.

    Args:
      texts: constraints, each in one of the forms of this module.
      columns: the values of each column of categories, None for one of numbers.

    Raises:
      UserError: a constraint has another form, or names an unknown column or value.
    """
    sums, implications = [], []
    for text in texts:
        rule = re.fullmatch(r"\s*if\s+(.+)", text, re.DOTALL | re.IGNORECASE)
        if rule is not None:
            parts = list(split_outside_quotes(rule[1], r"\s+then\s+"))
            if len(parts) != 2:
                raise UserError(
                    f"{FIELD}: an implication must be 'if ... then ...', got {text!r}", FIELD
                )
            premise, conclusion = (parse_condition(part, columns, FIELD) for part in parts)
            implications.append(Implication(text, premise, conclusion))
        elif "+" in re.sub(QUOTED, "", text):
            sums.append(_parse_sum(text, columns))
        else:
            implications.append(Implication(text, None, parse_condition(text, columns, FIELD)))
    totals = [one.total for one in sums]
    for one in sums:
        if totals.count(one.total) > 1 or set(one.parts) & set(totals):
            raise UserError(
                f"{FIELD}: a total must have one sum and be part of none, got {one.total!r}", FIELD
            )
    return Constraints(tuple(sums), tuple(implications))


def check_constraints(constraints: Constraints, columns: Columns, title: str) -> None:
    """Refuse constraints that rows of the table break; the message counts them.

    Raises:
      UserError: a row breaks a constraint.
    """
    for implication in constraints.implications:
        _refuse(implication.text, implication.holds(columns), title)
    for one in constraints.sums:
        added, total = one.add(columns), columns[one.total]
        near = np.abs(added - total) <= 1e-9 * np.maximum(1, np.abs(total))
        kept = np.where(np.isnan(total), np.isnan(added), near)
        _refuse(f"{' + '.join(one.parts)} = {one.total}", kept, title)


def _refuse(text: str, kept: np.ndarray, title: str) -> None:
    broken = int((~kept).sum())
    if broken:
        raise UserError(
            f"{FIELD}: {text!r} does not hold in {broken:,} of {len(kept):,} rows of {title}, "
            f"first in row {int((~kept).argmax()) + 1:,}: correct the rows, or leave it out",
            FIELD,
        )


def _parse_sum(text: str, columns: Mapping[str, Sequence[str] | None]) -> Sum:
    sides = list(split_outside_quotes(text, "="))
    if len(sides) != 2:
        raise UserError(f"{FIELD}: a sum must be 'a + b = c', got {text!r}", FIELD)
    names = [find_column(name, columns, FIELD) for name in split_outside_quotes(sides[0], r"\+")]
    total = find_column(sides[1], columns, FIELD)
    for name in (*names, total):
        if columns[name] is not None:
            raise UserError(f"{FIELD}: column {name!r} of a sum must hold numbers", FIELD)
    if len({*names, total}) <= len(names):
        raise UserError(f"{FIELD}: the columns of a sum must differ, got {text!r}", FIELD)
    return Sum(total, tuple(names))
