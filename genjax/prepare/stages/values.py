"""Stages for missing or wrong values, and for classes of unequal size."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from genjax import checks
from genjax.errors import UserError
from genjax.prepare.stage import (
    ID,
    Changes,
    RowStage,
    Stage,
    check_columns,
    get_column,
    get_texts,
    hash_position,
    join_decisions,
    make_drop_decisions,
    replace_column,
)
from genjax.prepare.stages.duplicates import collect_values

if TYPE_CHECKING:
    from daft import DataFrame


@checks.frozen
class Missing(RowStage):
    """Drops records that lack a value, or fills it in.

    Attributes:
      columns: columns that need a value; blanks do not count.
      fill: (column, value) pairs for missing values; such a column drops no record.
    """

    broken: ClassVar[bool] = True

    columns: tuple[str, ...] = ("text",)
    fill: tuple[tuple[str, str], ...] = ()

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        changes = Changes(len(table))
        for column, value in self.fill:
            texts = get_texts(table, column)
            for row, text in enumerate(texts):
                changes.add(row, f"missing values of {column!r} filled", _is_missing(text))
            table = replace_column(table, column, [value if _is_missing(x) else x for x in texts])
        reasons: list[str | None] = [None] * len(table)
        for column in self.columns:
            values = get_column(table, column).to_pylist()
            reasons = [
                r or (f"no {column}" if _is_missing(x) else None)
                for r, x in zip(reasons, values, strict=True)
            ]
        return changes.beside(table), reasons


@checks.frozen
class Valid(RowStage):
    """Drops records with an invalid value; missing values pass.

    Attributes:
      column: column of texts.
      pattern: regular expression that the whole value must match.
      least: smallest number; None for no limit.
      most: largest number; None for no limit.
    """

    broken: ClassVar[bool] = True

    column: str
    pattern: str = ".*"
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UserError(
                f"pattern must be a regular expression, got {self.pattern!r}: {error}", "pattern"
            ) from None

    @functools.cached_property
    def _form(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.DOTALL)

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        return table, [
            None if _is_missing(x) else self._find_fault(str(x))
            for x in get_texts(table, self.column)
        ]

    def _find_fault(self, value: str) -> str | None:
        if not self._form.fullmatch(value):
            return f"wrong {self.column}"
        if self.least is None and self.most is None:
            return None
        try:
            number = float(value)
        except ValueError:
            return f"{self.column} is not a number"
        low, high = self.least, self.most
        inside = (low is None or number >= low) and (high is None or number <= high)
        return None if inside else f"{self.column} out of range"


@checks.frozen
class Balanced(Stage):
    """Keeps the same number of records of each class, chosen by the hashes of their ids.

    Records without a class are dropped.

    Attributes:
      column: column of the class.
      most: most records of a class; None for the size of the smallest class.
    """

    column: str = "label"
    most: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "most")

    def __call__(self, records: DataFrame) -> DataFrame:
        import daft

        check_columns(records, (self.column,))
        found = collect_values(records, daft.col(self.column).cast(daft.DataType.string()))
        ids, values = found[ID].to_pylist(), found["value"].to_pylist()
        classes, known = (
            np.array([x or "" for x in values]),
            np.array([x is not None for x in values], bool),
        )
        names, counts = np.unique(classes[known], return_counts=True)
        most = self.most or int(counts.min(initial=len(ids)))
        order = np.argsort([hash_position(i, "balance") for i in ids], kind="stable")
        gone: list[int] = np.flatnonzero(~known).tolist()
        reasons = [f"no {self.column}"] * len(gone)
        for name in names:
            gone += order[known[order] & (classes[order] == name)][most:].tolist()
        reasons += ["surplus of its class"] * (len(gone) - len(reasons))
        return join_decisions(
            records, make_drop_decisions(found[ID].take(pa.array(gone, pa.int64())), reasons)
        )


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
