"""Rows of a table to model space and back: numbers by the mode that they belong to, categories by
their place.

The normalisation of CTGAN (Xu et al., arXiv 1907.00503), but that the mode of a number is the most
probable one instead of a draw, so that a row is the same each time it is seen.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.codecs import write_file
from genjax.data.images.decode import note
from genjax.data.pictures import png_bytes
from genjax.data.tables.dates import DateColumn
from genjax.data.tables.pictures import marginals
from genjax.data.tables.vectors import blocks
from genjax.errors import UserError, unknown_name

Columns = dict[
    str, np.ndarray
]  # numbers float64 [N], NaN where missing; categories str [N], None if missing

WIDTH = 4.0  # standard deviations of a mode that a number of 1 represents


@checks.frozen
class NumberColumn:
    """A column of numbers as a mixture of Gaussians: a number is its mode and where it lies in
    that.

    Attributes:
      name: of the column.
      weights: of the modes.
      means: of the modes.
      stds: of the modes.
      decimals: that numbers are rounded to when they are decoded, 0 for whole numbers; None leaves
        them as they are.
      missing: whether a number may be missing, which is a mode of its own, the last.
      low: the smallest number that a sample may have, that of the training rows; None for any.
      high: and the largest one.
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
                f"weights, means and stds of {self.name!r} must be as many, and at least one"
            )
        if min(self.weights) <= 0 or min(self.stds) <= 0:
            raise UserError(
                f"weights and standard deviations of the modes of {self.name!r} are above 0"
            )
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise UserError(
                f"low of {self.name!r} must be at most high, got {self.low} and {self.high}"
            )

    @property
    def size(self) -> int:
        """How many modes there are."""
        return len(self.means) + self.missing

    def encode(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers [N], NaN where missing, to where they lie in their mode float32 [N], and the mode
        int32 [N].

        Raises:
          UserError: a number is missing, which none is in the training rows.
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
        """The inverse: numbers float64 [N]; what is not finite is missing."""
        absent = (mode == len(self.means)) | ~np.isfinite(within)
        chosen = np.where(absent, 0, mode)
        values = np.asarray(self.means)[chosen] + WIDTH * np.asarray(self.stds)[
            chosen
        ] * within.astype(np.float64)
        if self.decimals is not None:
            values = np.round(values, self.decimals) + 0.0  # no negative zero
        return np.where(absent, np.nan, values)

    def clip(self, values: np.ndarray) -> np.ndarray:
        """Numbers [N], with those outside of the range at its nearer end."""
        return (
            values
            if self.low is None and self.high is None
            else np.clip(values, self.low, self.high) + 0.0
        )

    def format(self, values: np.ndarray) -> list[str]:
        """Numbers as written in a file, "" where one is missing."""
        form = ".9g" if self.decimals is None else f".{self.decimals}f"
        return ["" if np.isnan(value) else format(value, form) for value in values]


@checks.frozen
class CategoryColumn:
    """A column of categories.

    Attributes:
      name: of the column.
      values: the categories.
      missing: whether one may be missing, which is a category of its own, the last.
    """

    name: str
    values: tuple[str, ...]
    missing: bool = False

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise UserError(
                f"the categories of {self.name!r} differ, and there is one at least, not "
                f"{self.values}"
            )

    @property
    def size(self) -> int:
        """How many categories there are."""
        return len(self.values) + self.missing

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Categories [N], None if missing, to their places int32 [N].

        Raises:
          UserError: one is none of the training rows.
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
        """The inverse: object [N]."""
        return np.array([*self.values, None], object)[places]

    def format(self, values: np.ndarray) -> list[str]:
        """Categories as written in a file, "" where one is missing."""
        return ["" if value is None else value for value in values]


@checks.frozen
class TableCodec:
    """Rows of a table as vectors [D]: where its numbers lie in their modes, then a one-hot block
    each of the modes of every column of numbers and of the categories of every column of those.

    Attributes:
      numbers: the columns of numbers.
      categories: and those of categories.
      order: the names of all, as written in the table.
      target: the column that is to be predicted from the others; None for none.
      dates: columns of a file that are kept as several, instead of the first of these.
    """

    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]
    order: tuple[str, ...]
    target: str | None = None
    dates: tuple[DateColumn, ...] = ()

    def __post_init__(self) -> None:
        if sorted(self.order) != sorted(column.name for column in self.columns):
            raise UserError(
                f"the order of the columns names each of them once, unlike {self.order}"
            )
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
    def columns(self) -> tuple[NumberColumn | CategoryColumn, ...]:
        """All of them, the numbers first."""
        return (*self.numbers, *self.categories)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each column of ``categorical`` takes."""
        return tuple(column.size for column in self.columns)

    def encode(self, raw: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns [N] by name to ``numeric`` float32 [N, Kn], where each number lies in its mode,
        and ``categorical`` int32 [N, K], the mode of each number and then the categories.

        Raises:
          UserError: a column is missing or unknown, or holds what none of the training rows does.
        """
        for name in raw:
            if name not in self.order:
                raise unknown_name("column", name, self.order)
        for name in self.order:
            if name not in raw:
                raise UserError(f"the table has no column {name!r}")
        rows = len(raw[self.order[0]])
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
        """Samples [N, D] to columns in the order of the table; of a block the largest value counts.

        Numbers outside the range of a column are clipped to it, which ``decode_columns`` does not
        do.
        """
        numeric, hot = blocks(np.asarray(samples), self.sizes)
        columns = self.decode_columns(numeric, np.stack([block.argmax(-1) for block in hot], 1))
        return columns | {column.name: column.clip(columns[column.name]) for column in self.numbers}

    def _outside(self, samples: np.ndarray, columns: Columns) -> int:
        """How many numbers of samples are others in the columns that ``decode`` has made of
        them.
        """
        numeric, hot = blocks(samples, self.sizes)
        whole = self.decode_columns(numeric, np.stack([block.argmax(-1) for block in hot], 1))
        pairs = ((whole[column.name], columns[column.name]) for column in self.numbers)
        return sum(int(((a != b) & ~np.isnan(a)).sum()) for a, b in pairs)

    def decode_columns(self, numeric: np.ndarray, categorical: np.ndarray) -> Columns:
        """The inverse of ``encode``, from ``numeric`` [N, Kn] and ``categorical`` [N, K]."""
        places = categorical.T
        found = {
            column.name: column.decode(numeric[:, i], places[i])
            for i, column in enumerate(self.numbers)
        }
        rest = places[len(self.numbers) :]
        found |= {column.name: column.decode(rest[i]) for i, column in enumerate(self.categories)}
        return {name: found[name] for name in self.order}

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """The decoded samples [N, D] at ``stem`` + ".csv", and a picture of each column's
        distribution next to it.

        Returns:
          The table's path.
        """
        columns = self.decode(samples)
        if outside := self._outside(np.asarray(samples), columns):
            note(
                f"{stem.name}.csv: {outside:,} numbers outside of the range of the training rows "
                "are held at its end"
            )
        write_file(stem, ".png", png_bytes(marginals({"samples": columns})))
        cells = self.format(columns)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(cells)
        writer.writerows(zip(*cells.values(), strict=True))
        return write_file(stem, ".csv", buffer.getvalue().encode())

    def format(self, columns: Columns) -> dict[str, list[str]]:
        """The columns [N] of ``decode`` as those of a file, in its order: dates are put
        together from their parts.
        """
        cells = {column.name: column.format(columns[column.name]) for column in self.columns}
        parts = {name for date in self.dates for name in date.parts.values()}
        whole = {date.name: date.format(columns) for date in self.dates}
        return {
            name: whole.get(name) or cells[name]
            for name in self.order
            if name in whole or name not in parts
        }
