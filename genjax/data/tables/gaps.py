"""Tables with empty cells, to be filled in by a model."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genjax.data.codecs import write_file
from genjax.data.tables.codec import CategoryColumn, Columns, TableCodec
from genjax.data.tables.delimited import choose_dialect
from genjax.data.tables.files import MISSING, StoredTable, read_table
from genjax.errors import UserError, unknown_name

FIELD = "sampler.fill"


@dataclass(frozen=True)
class Gaps:
    """A table of which some cells are known.

    Attributes:
      table: the cells as stored; None where one is empty.
      numeric: numbers in the form of the codec, float32 [N, Kn]; 0 where unknown.
      categorical: modes and categories, int32 [N, K]; 0 where unknown.
      known: 1 where a column is known, float32 [N, K].
    """

    table: StoredTable
    numeric: np.ndarray
    categorical: np.ndarray
    known: np.ndarray

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """What the family is given."""
        return {"numeric": self.numeric, "categorical": self.categorical, "known": self.known}

    def write(self, samples: np.ndarray, codec: TableCodec, out: Path) -> Path:
        """Write the table as CSV, with the empty cells taken from samples [N, D] and all others
        as they were; return the path.
        """
        drawn = codec.format(codec.decode(samples))
        names = [*self.table.columns, *(name for name in drawn if name not in self.table.columns)]
        cells = {
            name: [
                filled if old is None else old
                for old, filled in zip(
                    self.table.columns.get(name, [None] * len(samples)), drawn[name], strict=True
                )
            ]
            for name in names
        }
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(zip(*cells.values(), strict=True))
        return write_file(out, ".csv", buffer.getvalue().encode())


def read_gaps(path: str, codec: TableCodec) -> Gaps:
    """Read a table with empty cells, in the form of a codec; a column that it lacks is all empty.

    Raises:
      UserError: the file cannot be read, or has a column or value that the codec does not know, or
        a total of which more than one part is empty.
    """
    place = Path(path).expanduser()
    table = read_table(place, "utf-8", MISSING, (), choose_dialect(place.name, None, None, None))
    parts = {part for date in codec.dates for part in date.parts.values()}
    known = [name for name in codec.order if name not in parts]
    known += [date.name for date in codec.dates]
    for name in table.columns:
        if name not in known:
            raise UserError(f"{FIELD}: {unknown_name('column', name, known)}", FIELD)
    filled = {n: cells for n, cells in table.columns.items() if any(c is not None for c in cells)}
    numbers = {column.name for column in codec.numbers} | codec.rules.totals
    typed = dataclasses.replace(table, columns=filled).convert_columns(
        [name for name in filled if name in numbers],
        [column.name for column in codec.categories if column.name in filled],
    )
    rows = len(next(iter(table.columns.values())))
    return _encode(table, _subtract(typed.columns, codec, rows), codec, rows)


def _subtract(columns: Columns, codec: TableCodec, rows: int) -> Columns:
    """Return columns in which the one empty part of a known total is what the others leave."""
    found = dict(columns)
    for one in codec.rules.sums:
        if one.total not in found:
            continue
        total = found.pop(one.total)
        nothing = np.full(rows, np.nan)
        values = np.stack([found.get(name, nothing) for name in one.parts])  # [P, N]
        absent = np.isnan(values) & ~np.isnan(total)
        if (absent.sum(0) > 1).any():
            row = int((absent.sum(0) > 1).argmax()) + 1
            raise UserError(
                f"{FIELD}: row {row:,} has {one.total!r} but lacks more than one of "
                f"{', '.join(one.parts)}: leave {one.total!r} empty, it is added up",
                FIELD,
            )
        rest = total - np.nansum(values, 0)
        for name, missing, value in zip(one.parts, absent, values, strict=True):
            found[name] = np.where(missing, rest, value)
    return found


def _encode(table: StoredTable, columns: Columns, codec: TableCodec, rows: int) -> Gaps:
    numeric = np.zeros((rows, len(codec.numbers)), np.float32)
    categorical = np.zeros((rows, len(codec.columns)), np.int32)
    known = np.zeros((rows, len(codec.columns)), np.float32)
    for k, column in enumerate(codec.columns):
        if column.name not in columns:
            continue
        cells = columns[column.name]
        if isinstance(column, CategoryColumn):
            there = np.array([cell is not None for cell in cells], bool)
            categorical[there, k] = _match_blanks(column, cells, there)
        else:
            there = ~np.isnan(cells)
            numeric[there, k], categorical[there, k] = column.encode(cells[there])
        known[there, k] = 1
    return Gaps(table, numeric, categorical, known)


def _match_blanks(column: CategoryColumn, cells: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Encode the known categories [M] of cells [N], whatever blanks surround them.

    Raises:
      UserError: a category is unknown; the message has row, column and the nearest name.
    """
    exact = {value: place for place, value in enumerate(column.values)}
    bare = {value.strip(): place for place, value in enumerate(column.values)}
    found = []
    for row in np.flatnonzero(there):
        cell = str(cells[row])
        place = exact.get(cell, bare.get(cell.strip()))
        if place is None:
            wrong = unknown_name(f"value of {column.name!r}", cell.strip(), tuple(bare))
            raise UserError(f"{FIELD}: row {row + 1:,}: {wrong}", FIELD)
        found.append(place)
    return np.array(found, np.int32)
