"""Read tables from CSV and Parquet files as columns of text, and convert them to numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from genjax.data.compressed import check_parquet
from genjax.data.synthetic import refuse_synthetic
from genjax.data.tables.codec import Columns
from genjax.data.tables.dates import DateColumn
from genjax.data.tables.delimited import Dialect
from genjax.data.tables.tables import detect_kind, iterate_cells, text_rows
from genjax.data.tables.types import Typed, Typing
from genjax.data.tally import EMPTY_LINES, TRIMMED
from genjax.errors import UserError, unknown_name
from genjax.serial.stored import read_json

ROWS = 10_000  # rows converted to columns at once
MISSING = ("", "NA", "NaN", "nan", "NULL", "null")

SDV = {  # what each sdtype is here; others are ids, names, addresses and the like
    "categorical": "categorical",
    "boolean": "categorical",
    "numerical": "numeric",
    "datetime": "",
}

Cells = list[str | None]


@dataclass(frozen=True)
class StoredTable:
    """A table as stored.

    Attributes:
      title: name of the table in messages.
      columns: cells of each column in the order of the table; None where one is missing.
      words: columns whose stored type is not numeric.
      left: counts of what was skipped and left out.
    """

    title: str
    columns: Mapping[str, Cells]
    words: frozenset[str] = frozenset()
    left: Counter[str] = field(default_factory=Counter, compare=False)

    def convert_columns(
        self, numeric: Collection[str] = (), categorical: Collection[str] = ()
    ) -> Typed:
        """Convert the columns to numbers, dates or categories.

        Args:
          numeric: columns that must hold numbers.
          categorical: columns of categories, whatever they look like.

        Raises:
          UserError: a column is unknown, has no values, or none of these types; the message names
            row and column.
        """
        for name in (*numeric, *categorical):
            self.check(name)
        for name in set(numeric) & set(categorical):
            raise UserError(
                f"column {name!r} must not be in both numeric and categorical", "categorical"
            )
        typing = Typing(self.title, numeric, categorical, self.words)
        columns: Columns = {}
        found: list[DateColumn] = []
        for name, cells in self.columns.items():
            parts, date = typing.of(name, cells)
            for part in parts:
                if part in columns or (part != name and part in self.columns):
                    raise UserError(
                        f"{self.title} has a column {part!r}, the name of a part of the date "
                        f"{name!r}: rename it"
                    )
            columns |= parts
            found += [] if date is None else [date]
        return Typed(columns, tuple(found))

    def check(self, name: str) -> None:
        """Refuse the name of an unknown column, and suggest the closest one."""
        if name not in self.columns:
            raise UserError(f"{self.title}: {unknown_name('column', name, self.columns)}", "column")


def read_table(
    path: Path, encoding: str, missing: Collection[str], drop: Collection[str], dialect: Dialect
) -> StoredTable:
    """Read a table from a CSV or TSV file, plain or compressed by gzip, or from Parquet.

    Args:
      path: path of the file.
      encoding: encoding of CSV and TSV, and of bytes in Parquet.
      missing: texts that stand for a missing value, besides blanks and the empty text; surrounding
        blanks are ignored.
      drop: columns to leave out.
      dialect: how CSV and TSV are written.

    Raises:
      UserError: the file is missing, damaged, synthetic or of another kind, a row has the wrong
        number of values, or the type of a column is neither numbers nor categories; the message
        names row and column.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}", str(path))
    if path.suffix.lower() == ".json":
        raise UserError(_explain_json(path), "path")
    of = detect_kind(path)
    if of not in ("csv", "parquet"):
        raise UserError(f"{path.name} must end in .csv, .tsv, both also with .gz, or .parquet")
    table = _csv(path, encoding, drop, dialect) if of == "csv" else _parquet(path, encoding, drop)
    if not table.columns:
        raise UserError(f"{path.name} has no columns" + (" besides those in drop" if drop else ""))
    if not next(iter(table.columns.values())):
        raise UserError(f"{path.name} has no rows")
    empty = {"", *(marker.strip() for marker in missing)}
    columns: dict[str, Cells] = {
        name: [None if cell is None or cell.strip() in empty else cell for cell in cells]
        for name, cells in table.columns.items()
    }
    return StoredTable(table.title, columns, table.words, table.left)


def _explain_json(path: Path) -> str:
    """Say which fields stand for the metadata of SDV, which describe a table beside it."""
    kinds = f"{path.name} must end in .csv, .tsv, both also with .gz, or .parquet"
    found = read_json(epath.Path(path), dict, "give a table instead")
    tables = found.get("tables")
    if isinstance(tables, dict) and len(tables) > 1:
        return f"{kinds}; it describes {len(tables)} tables: join them to one first"
    whole = found if tables is None else next(iter(tables.values()), {})
    columns = whole.get("columns") if isinstance(whole, dict) else None
    if not isinstance(columns, dict):
        return kinds
    of = {name: c.get("sdtype") for name, c in columns.items() if isinstance(c, dict)}
    drop = tuple(name for name, kind in of.items() if kind not in SDV)
    fields = {"drop": drop}
    for way in ("categorical", "numeric"):
        fields[way] = tuple(name for name, kind in of.items() if SDV.get(str(kind)) == way)
    said = ", ".join(f"{way}={names!r}" for way, names in fields.items() if names)
    return f"{kinds}; it is metadata of SDV: give the table itself, with {said}"


def _csv(path: Path, encoding: str, drop: Collection[str], dialect: Dialect) -> StoredTable:
    left: Counter[str] = Counter()
    rows = text_rows(path, path.name, encoding, dialect, left)
    names = rows.names
    _check_drop(names, path.name, drop)
    columns: list[Cells] = [[] for _ in names]
    whole = iterate_cells(rows)
    while some := list(itertools.islice(whole, ROWS)):
        # A million rows at once would slow down garbage collection.
        for column, cells in zip(columns, zip(*some, strict=True), strict=True):
            column.extend(cells)
    kept = {name: cells for name, cells in zip(names, columns, strict=True) if name not in drop}
    left.update({EMPTY_LINES: rows.empty, TRIMMED: rows.trimmed})
    return StoredTable(path.name, kept, left=left)


def _parquet(path: Path, encoding: str, drop: Collection[str]) -> StoredTable:
    import pyarrow
    import pyarrow.parquet

    # This imports pyarrow, which other kinds of files do not need.
    from genjax.data.text import (
        parquet as parquet_text,
    )

    try:
        check_parquet(pyarrow.parquet.read_metadata(path), path.stat().st_size)
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"{path.name} cannot be read as Parquet: {str(error).splitlines()[0]}"
        ) from error
    refuse_synthetic(table.schema, path.name)
    names = [name for name in _check_names(table.column_names, path.name, drop) if name not in drop]
    columns: dict[str, Cells] = {}
    words: set[str] = set()
    for name in names:
        column = table.column(name)
        column = (
            column.cast(column.type.value_type)
            if pyarrow.types.is_dictionary(column.type)
            else column
        )
        types = pyarrow.types
        if types.is_floating(column.type):
            # The shortest text that restores them in their own precision.
            columns[name] = _texts(None if np.isnan(x) else x for x in column.to_numpy())
        elif types.is_integer(column.type) or types.is_decimal(column.type):
            columns[name] = _texts(column.to_pylist())
        elif any(is_kind(column.type) for is_kind in _words(types)):
            cells = parquet_text.values(column)
            columns[name] = parquet_text.texts(cells, encoding, path.name, name)
            words.add(name)
        elif (
            types.is_date(column.type)
            or types.is_timestamp(column.type)
            or types.is_time(column.type)
        ):
            try:
                columns[name] = parquet_text.moments(column)
            except pyarrow.ArrowException as error:  # such as an unknown time zone
                reason = str(error).splitlines()[0]
                raise UserError(
                    f"column {name!r} of {path.name} cannot be read: {reason}", name
                ) from None
        else:
            raise UserError(
                f"column {name!r} of {path.name} must hold numbers or categories, got "
                f"{column.type}; leave it out (drop)"
            )
    return StoredTable(path.name, columns, frozenset(words))


def _words(types: Any) -> tuple[Any, ...]:
    """Return the Parquet types of categories."""
    of_bytes = types.is_binary, types.is_large_binary, types.is_fixed_size_binary
    return types.is_string, types.is_large_string, types.is_string_view, types.is_boolean, *of_bytes


def _texts(values: Iterable[Any]) -> Cells:
    return [None if value is None else str(value) for value in values]


def _check_names(names: list[str], title: str, drop: Collection[str]) -> list[str]:
    """Return the names of the columns without surrounding blanks; they must be distinct."""
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise UserError(f"column {place} of {title} has no name in the header")
        if [other.strip() for other in names].index(name.strip()) != place - 1:
            raise UserError(f"{title} has two columns named {name!r}")
    _check_drop(names, title, drop)
    return names


def _check_drop(names: list[str], title: str, drop: Collection[str]) -> None:
    for name in drop:
        if name not in names:
            raise UserError(f"{title}: {unknown_name('column', name, names)}", "drop")
