"""The codec of tables: numbers are normalised within their mode, categories are numbered.

This is the normalisation of CTGAN (Xu et al., arXiv 1907.00503), except that the mode of a number
is the most probable one instead of a random draw, so that a row is always encoded alike.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.codecs import write_file
from genjax.data.images.decode import note
from genjax.data.pictures import png_bytes
from genjax.data.tables.constraints import Constraints, parse_constraints
from genjax.data.tables.dates import DateColumn
from genjax.data.tables.pictures import marginals
from genjax.data.tables.quantiles import QuantileColumn, format_numbers
from genjax.data.tables.vectors import blocks
from genjax.errors import UserError, unknown_name

Columns = dict[
    str, np.ndarray
]  # numbers float64 [N], NaN where missing; categories str [N], None if missing

WIDTH = 4.0  # standard deviations of a mode that are scaled to 1


@checks.frozen
class NumberColumn:
    """A column of numbers as a mixture of Gaussians: a number is encoded as its mode and its
    position in that mode.

    Attributes:
      name: name of the column.
      weights: weights of the modes.
      means: means of the modes.
      stds: standard deviations of the modes.
      decimals: decimals to which decoded numbers are rounded, 0 for whole numbers; None does not
        round.
      missing: whether numbers may be missing, which is an extra mode, the last.
      low: smallest number of a sample, from the training rows; None for no limit.
      high: largest number of a sample; None for no limit.
    """

    name: str
    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    decimals: int | None = None
    missing: bool = False
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not len(self.weights) == len(self.means) == len(self.stds) >= 1:
            raise UserError(
                f"weights, means and stds of {self.name!r} must have the same length, at least 1"
            )
        if min(self.weights) <= 0 or min(self.stds) <= 0:
            raise UserError(f"weights and stds of {self.name!r} must be > 0")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise UserError(
                f"low of {self.name!r} must be at most high, got {self.low} and {self.high}"
            )

    @property
    def size(self) -> int:
        """Number of modes."""
        return len(self.means) + self.missing

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode numbers [N], NaN where missing: positions in the mode float32 [N], modes int32
        [N].

        Raises:
          UserError: a number is missing, but none is in the training rows.
        """
        absent = np.isnan(values)
        if absent.any() and not self.missing:
            raise UserError(
                f"row {int(absent.argmax()) + 1:,} has no value in {self.name!r}, but every "
                "training row has one"
            )
        known = np.where(absent, self.means[0], values)
        away = (known[:, None] - np.asarray(self.means)) / np.asarray(self.stds)  # [N, modes]
        mode = (np.log(self.weights) - np.log(self.stds) - 0.5 * np.square(away)).argmax(1)
        within = np.take_along_axis(away, mode[:, None], 1)[:, 0] / WIDTH
        return np.where(absent, 0, within).astype(np.float32), np.where(
            absent, len(self.means), mode
        ).astype(np.int32)

    def decode(self, within: np.ndarray, mode: np.ndarray) -> np.ndarray:
        """Return the numbers float64 [N] of positions and modes; missing numbers are NaN."""
        absent = (mode == len(self.means)) | ~np.isfinite(within)
        chosen = np.where(absent, 0, mode)
        values = np.asarray(self.means)[chosen] + WIDTH * np.asarray(self.stds)[
            chosen
        ] * within.astype(np.float64)
        if self.decimals is not None:
            values = np.round(values, self.decimals) + 0.0  # avoids negative zero
        return np.where(absent, np.nan, values)

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Clip numbers [N] to the range of the column."""
        return (
            values
            if self.low is None and self.high is None
            else np.clip(values, self.low, self.high) + 0.0
        )

    def format(self, values: np.ndarray) -> list[str]:
        """Format numbers as in a file; "" where one is missing."""
        return format_numbers(values, self.decimals)


@checks.frozen
class CategoryColumn:
    """A column of categories.

    Attributes:
      name: name of the column.
      values: the categories.
      missing: whether values may be missing, which is an extra category, the last.
    """

    name: str
    values: tuple[str, ...]
    missing: bool = False

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise UserError(
                f"values of {self.name!r} must be distinct and at least one, got {self.values}",
                "values",
            )

    @property
    def size(self) -> int:
        """Number of categories."""
        return len(self.values) + self.missing

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Encode categories [N], None if missing, as their indices int32 [N].

        Raises:
          UserError: a category is not in the training rows.
        """
        places: dict[str | None, int] = {value: place for place, value in enumerate(self.values)}
        if self.missing:
            places[None] = len(self.values)
        for row, value in enumerate(values, 1):
            if value not in places:
                what = "no value" if value is None else repr(value)
                raise UserError(
                    f"row {row:,} has {what} in {self.name!r}, which no training row has"
                )
        return np.array([places[value] for value in values], np.int32)

    def decode(self, places: np.ndarray) -> np.ndarray:
        """Return the categories of indices [N], object [N], None if missing."""
        return np.array([*self.values, None], object)[places]

    def format(self, values: np.ndarray) -> list[str]:
        """Format categories as in a file; "" where one is missing."""
        return ["" if value is None else value for value in values]


@checks.frozen
class TableCodec:
    """Encodes rows of a table as vectors [D]: the positions of the numbers in their modes, then a
    one-hot block for the modes of each numeric column and for each column of categories.

    Attributes:
      numbers: numeric columns.
      categories: columns of categories.
      order: names of all columns in the order of the table.
      target: column to predict from the others; None for none.
      dates: date columns of the file, each of which is split into several numeric columns.
      constraints: what rows keep, see ``genjax.data.tables.constraints``; totals of sums are in
        ``order`` alone.
    """

    numbers: tuple[NumberColumn | QuantileColumn, ...]
    categories: tuple[CategoryColumn, ...]
    order: tuple[str, ...]
    target: str | None = None
    dates: tuple[DateColumn, ...] = ()
    constraints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [*(column.name for column in self.columns), *self.rules.totals]
        if sorted(self.order) != sorted(names):
            raise UserError(f"order must name each column once, got {self.order}", "order")
        if self.target in self.rules.totals:
            raise UserError(f"target must not be a sum of other columns, got {self.target!r}")
        if self.target is not None and self.target not in self.order:
            raise unknown_name("target column", self.target, self.order)
        for date in self.dates:
            for name in date.parts.values():
                if name not in self.order:
                    raise unknown_name(f"part of {date.name!r}", name, self.order)

    @property
    def shown(self) -> int:
        return 500

    @property
    def levels(self) -> None:
        return None

    @property
    def columns(self) -> tuple[NumberColumn | QuantileColumn | CategoryColumn, ...]:
        """All columns, the numeric ones first."""
        return (*self.numbers, *self.categories)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each column of ``categorical``."""
        return tuple(column.size for column in self.columns)

    @property
    def values(self) -> dict[str, tuple[str, ...] | None]:
        """The values of each column of categories; None for one of numbers."""
        categories = {column.name: column.values for column in self.categories}
        return {name: categories.get(name) for name in self.order}

    @functools.cached_property
    def rules(self) -> Constraints:
        """The parsed constraints."""
        return parse_constraints(self.constraints, self.values)

    def accept(self, samples: np.ndarray) -> np.ndarray | None:
        """Return which samples [N, D] keep the constraints, bool [N]; None without constraints."""
        return self.rules.holds(self.decode(samples)) if self.rules.implications else None

    def find_conditions(self) -> tuple[int, ...]:
        """Return the place among ``columns`` of the target, if it is one of categories."""
        places = enumerate(self.categories, len(self.numbers))
        return tuple(place for place, column in places if column.name == self.target)

    def encode(self, raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Encode columns [N] by name as ``numeric`` float32 [N, Kn], positions in the modes, and
        ``categorical`` int32 [N, K], the modes and then the categories.

        Raises:
          UserError: a column is missing or unknown, or has a value that no training row has.
        """
        for name in raw:
            if name not in self.order:
                raise unknown_name("column", name, self.order)
        for column in self.columns:
            if column.name not in raw:
                raise UserError(f"the table has no column {column.name!r}")
        rows = len(raw[self.columns[0].name])
        pairs = [column.encode(raw[column.name]) for column in self.numbers]
        places = [mode for _, mode in pairs] + [
            column.encode(raw[column.name]) for column in self.categories
        ]
        return {
            "numeric": np.stack([within for within, _ in pairs], 1)
            if pairs
            else np.zeros((rows, 0), np.float32),
            "categorical": np.stack(places, 1),
        }

    def decode(self, samples: np.ndarray) -> Columns:
        """Decode samples [N, D] to columns in the order of the table; the largest value of a block
        counts.

        Unlike in ``decode_columns``, numbers are clipped to the range of their column.
        """
        numeric, hot = blocks(np.asarray(samples), self.sizes)
        columns = self.decode_columns(numeric, np.stack([block.argmax(-1) for block in hot], 1))
        return self._add_totals(
            columns | {column.name: column.clip(columns[column.name]) for column in self.numbers}
        )

    def _add_totals(self, columns: Columns) -> Columns:
        """Return columns with the totals of sums, in the order of the table."""
        columns = columns | {one.total: one.add(columns) for one in self.rules.sums}
        columns |= {
            one.total: np.round(columns[one.total], places) + 0.0
            for one, places in zip(self.rules.sums, self._decimals, strict=True)
            if places is not None
        }
        return {name: columns[name] for name in self.order}

    @property
    def _decimals(self) -> tuple[int | None, ...]:
        """Decimals of the total of each sum: the most of its parts, None if one is not rounded."""
        known = {column.name: column.decimals for column in self.numbers}
        found = [[known[name] for name in one.parts] for one in self.rules.sums]
        return tuple(
            None if None in parts else max(part for part in parts if part is not None)
            for parts in found
        )

    def _outside(self, samples: np.ndarray, columns: Columns) -> int:
        """Return how many numbers ``decode`` has clipped."""
        numeric, hot = blocks(samples, self.sizes)
        whole = self.decode_columns(numeric, np.stack([block.argmax(-1) for block in hot], 1))
        pairs = ((whole[column.name], columns[column.name]) for column in self.numbers)
        return sum(int(((a != b) & ~np.isnan(a)).sum()) for a, b in pairs)

    def decode_columns(self, numeric: np.ndarray, categorical: np.ndarray) -> Columns:
        """Return the columns of ``numeric`` [N, Kn] and ``categorical`` [N, K], inverting
        ``encode``.
        """
        places = categorical.T
        found = {
            column.name: column.decode(numeric[:, i], places[i])
            for i, column in enumerate(self.numbers)
        }
        rest = places[len(self.numbers) :]
        found |= {column.name: column.decode(rest[i]) for i, column in enumerate(self.categories)}
        return self._add_totals(found)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write the decoded samples [N, D] as CSV, and a plot of each column's distribution.

        Returns:
          The path of the table.
        """
        columns = self.decode(samples)
        if outside := self._outside(np.asarray(samples), columns):
            note(
                f"{stem.name}.csv: {outside:,} numbers are clipped to the range of the training "
                "rows"
            )
        write_file(stem, ".png", png_bytes(marginals({"samples": columns})))
        cells = self.format(columns)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
        return write_file(stem, ".csv", buffer.getvalue().encode())

    def format(self, columns: Columns) -> dict[str, list[str]]:
        """Format the columns [N] of ``decode`` as in a file, with dates joined from their parts."""
        cells = {column.name: column.format(columns[column.name]) for column in self.columns}
        for one, places in zip(self.rules.sums, self._decimals, strict=True):
            cells[one.total] = format_numbers(columns[one.total], places)
        parts = {name for date in self.dates for name in date.parts.values()}
        whole = {date.name: date.format(columns) for date in self.dates}
        return {
            name: whole.get(name) or cells[name]
            for name in self.order
            if name in whole or name not in parts
        }
