"""Pairs of tables, a row of the first to many of the second, as rows of one wide table.

A parent and its children are one row: the parent's columns, the number of children, and the columns
of as many children as a parent may have, missing where there is none. So a model of a table learns
how many children a parent has, and each child given its parent and its siblings; and every child of
a sample has a parent.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from genjax import checks
from genjax.data.codecs import write_file
from genjax.data.dataset import Dataset
from genjax.data.pictures import png_bytes
from genjax.data.tables.codec import CategoryColumn, Columns, NumberColumn, TableCodec
from genjax.data.tables.fit import Numbers, encode_parts, fit_codec, hold_out
from genjax.data.tables.pictures import marginals
from genjax.data.tables.quantiles import QuantileColumn, format_numbers
from genjax.errors import UserError

C = TypeVar("C", bound=NumberColumn | QuantileColumn | CategoryColumn)

CHILDREN = "_children.csv"  # the end of the name of the file of children


class Pair(NamedTuple):
    """Two tables without their keys: columns [N] of parents, columns [M] of children, and the row
    [M] of each child's parent.
    """

    parents: Columns
    children: Columns
    owner: np.ndarray


@dataclass(frozen=True)
class Relation:
    """How parents and children belong together.

    Attributes:
      key: name of the key.
      count: name of the column of the number of children.
      most: most children of a parent.
      target: column of parents that rows are given, if it has categories.
    """

    key: str
    count: str
    most: int
    target: str | None = None


@checks.frozen
class RelatedCodec(TableCodec):
    """Encodes parents with their children as rows of one table, and writes both tables.

    Attributes:
      key: column of both tables that says which parent a child belongs to.
      count: column of the number of children, a category.
      child_columns: names of the columns of a child; those of child number i are called by
        ``name_cell``.
      most: most children of a parent.
      lacking: columns of a child that may be missing though there is a child.
    """

    key: str = "id"
    count: str = "children"
    child_columns: tuple[str, ...] = ()
    most: int = 1
    lacking: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least(self, 1, "most")

    @property
    def parent_columns(self) -> tuple[str, ...]:
        """Names of the columns of a parent, without the key and the number of children."""
        cells = {name_cell(n, i) for n in self.child_columns for i in range(1, self.most + 1)}
        return tuple(name for name in self.order if name not in cells and name != self.count)

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Return for which samples [N, D] the constraints hold and no child lacks a cell that all
        children have, bool [N].
        """
        columns = self.decode(samples)
        number = _read_counts(columns[self.count])
        whole = self.rules.holds(columns)
        for place in range(1, self.most + 1):
            for name in self.child_columns:
                if name not in self.lacking:
                    whole &= (number < place) | ~find_missing(columns[name_cell(name, place)])
        return whole

    def split(self, columns: Columns) -> tuple[Columns, Columns]:
        """Return the parents [N] and the children [M] of wide rows [N], in the order of the
        parents, whose keys are 1 to N; parents have the number of children too.
        """
        number = _read_counts(columns[self.count])
        keys = np.arange(1.0, len(number) + 1)
        parents = {self.key: keys} | {name: columns[name] for name in self.parent_columns}
        parents[self.count] = number.astype(np.float64)
        there = np.arange(1, self.most + 1) <= number[:, None]  # [N, most]
        children = {self.key: np.repeat(keys, number)}
        for name in self.child_columns:
            cells = [columns[name_cell(name, i)] for i in range(1, self.most + 1)]
            children[name] = np.stack(cells, 1)[there]
        return parents, children

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write the parents of samples [N, D] as CSV, their children beside it under the same name
        with "_children.csv", and a plot of each column's distribution.

        Returns:
          The path of the table of parents.
        """
        parents, children = self.split(self.decode(samples))
        shown = {name: x for name, x in (*parents.items(), *children.items()) if name != self.key}
        write_file(stem, ".png", png_bytes(marginals({"samples": shown})))
        decimals = {column.name: column.decimals for column in self.numbers}
        first = {name: decimals.get(name_cell(name, 1)) for name in self.child_columns}
        write_file(stem, CHILDREN, _to_csv(children, first, self.key))
        del parents[self.count]
        return write_file(stem, ".csv", _to_csv(parents, decimals, self.key))


def name_cell(name: str, place: int) -> str:
    """Return the name in the wide table of a column of child number ``place``, from 1."""
    return f"{name} {place}"


def find_missing(cells: np.ndarray) -> np.ndarray:
    """Return which cells [N] are missing, bool [N]."""
    if cells.dtype.kind == "f":
        return np.isnan(cells)
    return np.array([cell is None for cell in cells], bool)


def widen(pair: Pair, count: str, most: int) -> Columns:
    """Return the wide rows of a pair; ``count`` names the number of children, at most ``most``."""
    parents, children, owner = pair
    rows = len(next(iter(parents.values())))
    number = np.bincount(owner, minlength=rows)
    order = np.argsort(owner, kind="stable")
    place = np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)
    wide = dict(parents)
    wide[count] = np.array([str(n) for n in number.tolist()], object)
    for i in range(most):
        here = order[place == i]
        for name, cells in children.items():
            numbers = cells.dtype.kind == "f"
            column = np.full(rows, np.nan) if numbers else np.full(rows, None, object)
            column[owner[here]] = cells[here]
            wide[name_cell(name, i + 1)] = column
    return wide


def related_dataset(
    pair: Pair,
    relation: Relation,
    title: str,
    *,
    test_fraction: float,
    seed: int,
    numbers: Numbers,
) -> Dataset:
    """Return the data set of a pair of tables; held out are parents with their children.

    A column of children has one form, fitted to the children of all training parents together.

    Args:
      pair: the tables.
      relation: how they belong together.
      title: name of the tables in messages.
      test_fraction: fraction of held-out parents.
      seed: seed of the split and of the search for modes.
      numbers: how numbers are encoded.

    Raises:
      UserError: a parent has more children, two columns have one name, or as for
        ``table_dataset``.
    """
    _check_names(pair, relation)
    rows = len(next(iter(pair.parents.values())))
    number = np.bincount(pair.owner, minlength=rows)
    if number.max(initial=0) > relation.most:
        raise UserError(
            f"most must be >= {number.max():,}, the children of row {int(number.argmax()) + 1:,} "
            f"of the parents, got {relation.most}",
            "most",
        )
    wide = widen(pair, relation.count, relation.most)
    # The split that leaves all categories to the training rows, whichever child has them.
    parts, remarks = hold_out(wide, title, test_fraction, seed)
    codec = _fit(pair, relation, parts["train"], seed, numbers)
    how = (*dataclasses.astuple(relation), test_fraction, seed, numbers)
    return encode_parts(wide, codec, parts, how, remarks)


def _check_names(pair: Pair, relation: Relation) -> None:
    places = range(1, relation.most + 1)
    taken = {name_cell(name, i) for name in pair.children for i in places}
    for name in pair.parents:
        if name in taken | {relation.key, relation.count}:
            raise UserError(
                f"count must be no column of the parents, and none of them may be called {name!r}: "
                "rename it",
                "count",
            )


def _fit(
    pair: Pair, relation: Relation, train: np.ndarray, seed: int, numbers: Numbers
) -> RelatedCodec:
    """Fit the codec to the training parents ``train`` [K] and their children."""
    wide = widen(pair, relation.count, relation.most)
    own = pair.parents | {relation.count: wide[relation.count]}
    plain = fit_codec(own, train, relation.target, seed, numbers)
    # A missing child is appended, as some parents have fewer than others.
    pooled = {
        name: np.append(cells, np.array([np.nan if cells.dtype.kind == "f" else None], cells.dtype))
        for name, cells in pair.children.items()
    }
    theirs = np.append(np.flatnonzero(np.isin(pair.owner, train)), len(pair.owner))
    of_child = fit_codec(pooled, theirs, None, seed, numbers)
    places = range(1, relation.most + 1)
    return RelatedCodec(
        (*plain.numbers, *(_rename(column, i) for i in places for column in of_child.numbers)),
        (
            *plain.categories,
            *(_rename(column, i) for i in places for column in of_child.categories),
        ),
        tuple(wide),
        relation.target,
        key=relation.key,
        count=relation.count,
        child_columns=tuple(pair.children),
        most=relation.most,
        lacking=tuple(name for name, x in pair.children.items() if find_missing(x).any()),
    )


def _rename(column: C, place: int) -> C:
    """Return the column of a child for child number ``place``."""
    return dataclasses.replace(column, name=name_cell(column.name, place))


def _read_counts(cells: np.ndarray) -> np.ndarray:
    """Return the numbers of children int64 [N] of their categories."""
    return np.array([int(cell) for cell in cells], np.int64)


def _to_csv(columns: Columns, decimals: Mapping[str, int | None], key: str) -> bytes:
    cells = [
        ["" if cell is None else cell for cell in column]
        if column.dtype.kind != "f"
        else format_numbers(column, 0 if name == key else decimals.get(name))
        for name, column in columns.items()
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*cells, strict=True))
    return buffer.getvalue().encode()
