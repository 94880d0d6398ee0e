"""Tables of CSV and Parquet files as columns of text, and which of the columns hold numbers."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genjax.data.compressed import check_parquet
from genjax.data.synthetic import refuse_synthetic
from genjax.data.table_codec import Columns
from genjax.data.tables import kind
from genjax.data.texts import lines
from genjax.errors import UserError, unknown

# No leading zeros, as postal codes and other names made of digits have.
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
LARGEST = 1e18  # whose square is a number of float32
MISSING = ("", "NA", "NaN", "nan", "NULL", "null")

Cells = list[str | None]


@dataclass(frozen=True)
class StoredTable:
    """A table as it is stored.

    Attributes:
      title: what a person calls it.
      columns: the cells of each column in the order of the table, None where one is missing.
      words: columns that hold no numbers, as their type says.
    """

    title: str
    columns: Mapping[str, Cells]
    words: frozenset[str] = frozenset()

    def typed(self, numeric: Collection[str] = (), categorical: Collection[str] = ()) -> Columns:
        """The columns as numbers or categories, all with one value at least.

        Args:
          numeric: columns that have to hold numbers.
          categorical: columns that hold categories, whatever they look like.

        Raises:
          UserError: an unknown column, one without values, or one that is neither; row and column are named.
        """
        for name in (*numeric, *categorical):
            self.check(name)
        for name in set(numeric) & set(categorical):
            raise UserError(f"column {name!r} is listed in numeric and in categorical: take one")
        return {name: self._typed(name, name in numeric, name in categorical) for name in self.columns}

    def check(self, name: str) -> None:
        """Refuse the name of no column, with the nearest that there is."""
        if name not in self.columns:
            raise UserError(f"{self.title}: {unknown('column', name, self.columns)}")

    def _typed(self, name: str, numeric: bool, categorical: bool) -> np.ndarray:
        cells = self.columns[name]
        known = [cell for cell in cells if cell is not None]
        if not known:
            raise UserError(f"column {name!r} of {self.title} holds no value; leave it out (drop)")
        numbers = sum(NUMBER.fullmatch(cell.strip()) is not None for cell in known)
        if not numeric and (categorical or name in self.words or 2 * numbers <= len(known)):
            return np.array(cells, object)
        if numbers < len(known):
            row, cell = next((i, c) for i, c in enumerate(cells, 1) if c and not NUMBER.fullmatch(c.strip()))
            raise UserError(
                f"row {row:,} of {self.title} has {cell!r} in {name!r}, where {numbers:,} of {len(known):,} values are "
                "numbers: mend it, or list it in missing, or the column in categorical"
            )
        values = np.array([np.nan if cell is None else float(cell) for cell in cells])
        if (large := np.abs(values) > LARGEST).any():
            row = int(large.argmax())
            raise UserError(
                f"row {row + 1:,} of {self.title} has {cells[row]!r} in {name!r}: no number above {LARGEST:g}"
            )
        return values


def read_table(path: Path, encoding: str, missing: Collection[str], drop: Collection[str]) -> StoredTable:
    """A CSV or TSV file, plain or compressed by gzip, or one of Parquet.

    Args:
      encoding: of CSV and TSV.
      missing: what cells without a value hold.
      drop: columns that are left out.

    Raises:
      UserError: the file is missing, damaged, synthetic or of another kind, a row is of the wrong width, or a column of
        a type that is neither numbers nor categories; row and column are named.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    read = {"csv": _csv, "parquet": _parquet}.get(kind(path))
    if read is None:
        raise UserError(f"{path.name} is no table of columns; known are .csv, .tsv, both also with .gz, and .parquet")
    table = read(path, encoding, drop)
    if not table.columns:
        raise UserError(f"{path.name} has no columns" + (" that are not left out (drop)" if drop else ""))
    if not next(iter(table.columns.values())):
        raise UserError(f"{path.name} has no rows")
    empty = {*missing, None}
    columns = {name: [None if cell in empty else cell for cell in cells] for name, cells in table.columns.items()}
    return StoredTable(path.name, columns, table.words)


def _csv(path: Path, encoding: str, drop: Collection[str]) -> StoredTable:
    csv.field_size_limit(sys.maxsize)  # the module's own limit would refuse a long text in a cell
    tabs = ".tsv" in path.suffixes
    reader = csv.reader(lines(path, encoding), delimiter="\t" if tabs else ",", strict=True)
    try:
        names = _checked(next(reader, []), path.name, drop)
        rows: list[list[str]] = []
        for number, row in enumerate((row for row in reader if row), 1):  # a line without anything is no row
            if len(row) != len(names):
                raise UserError(
                    f"row {number:,} of {path.name} (line {reader.line_num:,}) has {len(row)} values, "
                    f"but the header names {len(names)} columns"
                )
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{path.name} cannot be read as a table, near line {reader.line_num:,}: {error}") from None
    columns: list[Cells] = [list(cells) for cells in zip(*rows, strict=True)] or [[] for _ in names]
    return StoredTable(path.name, {n: cells for n, cells in zip(names, columns, strict=True) if n not in drop})


def _parquet(path: Path, encoding: str, drop: Collection[str]) -> StoredTable:
    import pyarrow
    import pyarrow.parquet

    try:
        check_parquet(pyarrow.parquet.read_metadata(path), path.stat().st_size)
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path.name} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    refuse_synthetic(table.schema, path.name)
    names = [name for name in _checked(table.column_names, path.name, drop) if name not in drop]
    columns: dict[str, Cells] = {}
    words: set[str] = set()
    for name in names:
        column = table.column(name)
        column = column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column
        if pyarrow.types.is_floating(column.type):  # of their own precision: the shortest text that gives them back
            columns[name] = _texts(None if np.isnan(x) else x for x in column.to_numpy())
        elif pyarrow.types.is_integer(column.type) or pyarrow.types.is_decimal(column.type):
            columns[name] = _texts(column.to_pylist())
        elif any(is_kind(column.type) for is_kind in _words(pyarrow.types)):
            columns[name], words = _texts(column.to_pylist()), words | {name}
        else:
            raise UserError(
                f"column {name!r} of {path.name} holds {column.type}, which are neither numbers nor categories; "
                "leave it out (drop)"
            )
    return StoredTable(path.name, columns, frozenset(words))


def _words(types: Any) -> tuple[Any, ...]:
    """Which types of Parquet are those of categories."""
    return types.is_string, types.is_large_string, types.is_boolean


def _texts(values: Iterable[Any]) -> Cells:
    return [None if value is None else str(value) for value in values]


def _checked(names: list[str], title: str, drop: Collection[str]) -> list[str]:
    """The names of the columns, which have to differ."""
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise UserError(f"column {place} of {title} has no name in the header")
        if names.index(name) != place - 1:
            raise UserError(f"{title} has two columns of the name {name!r}")
    for name in drop:
        if name not in names:
            raise UserError(f"{title}: {unknown('column', name, names)}")
    return names
