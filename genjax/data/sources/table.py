"""Tables of numbers and categories: from files, and those that scikit-learn ships."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.tables.codec import Columns, TableCodec
from genjax.data.tables.delimited import check_dialect, choose_dialect
from genjax.data.tables.files import MISSING, StoredTable, read_table
from genjax.data.tables.fit import encode_rows, table_dataset
from genjax.data.tables.types import NUMBER, Typed
from genjax.data.tally import format_counts
from genjax.errors import UserError, unknown_name

# name: the column that is to be predicted
TARGETS = {
    "breast_cancer": "diagnosis",
    "wine": "cultivar",
    "iris": "species",
    "diabetes": "progression",
}


@checks.frozen
class Table:
    """The rows of a CSV or TSV file, plain or (".gz") compressed by gzip, or of one of Parquet.

    A column holds numbers where all its values are such, dates or times where all are ISO ones, and
    categories otherwise; where most of them are numbers but not all, it must be said which. Ids,
    free text, and numbers and dates in other forms are refused by name. What numbers are rounded to
    is remembered, whole ones among them, and so is how dates are written. A missing value stays
    one.

    Attributes:
      path: of the file.
      target: the column that is to be predicted from the others, such as by ``TrainOnSynthetic``;
        None for none.
      numeric: columns that must hold numbers.
      categorical: columns that hold categories though they may look like numbers.
      drop: columns that are left out, such as names and numbers of records.
      missing: what cells without a value hold, besides blanks or nothing; blanks around it do not
        count.
      test_fraction: share of the rows that is held out; 0 trains on all.
      seed: of the split, and of the search for the modes of numbers.
      modes: of a column of numbers, at most.
      encoding: of CSV and TSV.
      root: the folder that ``path`` is below, where it may differ from machine to machine; None for
        the current one.
      in_range: hold the numbers of samples within the range of the training rows.
      delimiter: between values; None for a tab in .tsv and a comma else.
      quote: around values that hold the delimiter; "" for none. None takes none in .tsv, and double
        quotes else.
      escape: before a character that represents itself; None for none.
    """

    path: str
    target: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    test_fraction: float = 0.2
    seed: int = 0
    modes: int = 10
    encoding: str = "utf-8"
    root: str | None = None
    in_range: bool = True
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None

    def __post_init__(self) -> None:
        _check(self.test_fraction, self.modes)
        check_dialect(self.delimiter, self.quote, self.escape)

    def open(self) -> Dataset:
        """Batches of ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B, K]."""
        table = self._read()
        if self.target is not None:
            table.check(self.target)
        typed = table.convert_columns(self.numeric, self.categorical)
        remarks = _remarks(table, typed)
        data = table_dataset(
            typed.columns,
            table.title,
            target=self.target,
            test_fraction=self.test_fraction,
            seed=self.seed,
            modes=self.modes,
            dates=typed.dates,
            in_range=self.in_range,
        )
        return dataclasses.replace(data, remarks=(*remarks, *data.remarks))

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """The rows by the codec of a run; columns are numbers or categories as they are there.

        Raises:
          UserError: a column is missing, or holds what none of the run's training rows does.
        """
        if not isinstance(codec, TableCodec):
            raise UserError("the set does not fit the run, which has learned no table", "data")
        table, dated = self._read(), {part for d in codec.dates for part in d.parts.values()}
        known = [n for n in codec.order if n not in dated] + [date.name for date in codec.dates]
        for name in known:
            table.check(name)
        extra = [name for name in table.columns if name not in known]
        if extra:
            note(f"{table.title}: left out, as the run has no such columns: {', '.join(extra)}")
        kept = {name: cells for name, cells in table.columns.items() if name in known}
        numbers, categories = (
            tuple(column.name for column in columns if column.name not in dated)
            for columns in (codec.numbers, codec.categories)
        )
        typed = dataclasses.replace(table, columns=kept).convert_columns(numbers, categories)
        return encode_rows(
            typed.columns, codec, spec, test_fraction=self.test_fraction, seed=self.seed
        )

    def _read(self) -> StoredTable:
        path = Path(self.root or "").expanduser() / Path(self.path).expanduser()
        dialect = choose_dialect(path.name, self.delimiter, self.quote, self.escape)
        return read_table(path, self.encoding, self.missing, self.drop, dialect)


def _remarks(table: StoredTable, typed: Typed) -> tuple[str, ...]:
    """Say in one line what was skipped or taken for something else, if anything was; returns
    the line.
    """
    found = [format_counts(table.left)] if format_counts(table.left) else []
    gone = {name: cells.count(None) for name, cells in table.columns.items()}
    lacking = [f"{count:,} in {name!r}" for name, count in gone.items() if count]
    if lacking:
        shown = ", ".join(lacking[:5]) + (
            f" and {len(lacking) - 5:,} more columns" if len(lacking) > 5 else ""
        )
        found.append(f"values are missing, {shown}")
    named = [name for name in table.columns if NUMBER.fullmatch(name)]
    if len(named) == len(table.columns):
        found.append(
            "the names of all columns are numbers: if they are values, the file lacks a header"
        )
    alike = [f"{count:,} in {name!r}" for name, count in typed.alike.items() if count]
    if alike:
        found.append(
            f"categories differ from others in blanks and case alone, {', '.join(alike[:5])}"
        )
    if typed.dates:
        found.append("dates or times are " + ", ".join(repr(date.name) for date in typed.dates))
    if not found:
        return ()
    rows = len(next(iter(table.columns.values())))
    line = f"{table.title}: {rows:,} rows, {len(table.columns):,} columns; {'; '.join(found)}"
    note(line)
    return (line,)


@checks.frozen
class EmbeddedTable:
    """A table that scikit-learn ships, with what is to be predicted as its last column.

      breast_cancer: 569 tumours, 30 measures, ``diagnosis``: malignant or benign.
      wine: 178 wines, 13 measures, ``cultivar``: class_0, class_1 or class_2.
      iris: 150 flowers, 4 measures, ``species``: setosa, versicolor or virginica.
      diabetes: 442 patients, 9 measures and the category ``sex``, ``progression``, which is a
        number.

    Attributes:
      name: one of the names above.
      test_fraction: share of the rows that is held out.
      seed: of the split, and of the search for the modes of numbers.
      modes: of a column of numbers, at most.
    """

    name: str = "breast_cancer"
    test_fraction: float = 0.25
    seed: int = 0
    modes: int = 10

    def __post_init__(self) -> None:
        if self.name not in TARGETS:
            raise unknown_name("table", self.name, TARGETS)
        checks.at_least(self, 0, "seed")
        _check(self.test_fraction, self.modes)

    def open(self) -> Dataset:
        """Batches of ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B, K]."""
        return table_dataset(
            self._make_columns(),
            f"scikit-learn's {self.name}",
            target=TARGETS[self.name],
            test_fraction=self.test_fraction,
            seed=self.seed,
            modes=self.modes,
        )

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """The rows by the codec of a run.

        Raises:
          UserError: the run has learned another table.
        """
        if not isinstance(codec, TableCodec):
            raise UserError("the set does not fit the run, which has learned no table", "data")
        return encode_rows(
            self._make_columns(), codec, spec, test_fraction=self.test_fraction, seed=self.seed
        )

    def _make_columns(self) -> Columns:
        from sklearn import datasets

        scaled = {"scaled": False} if self.name == "diabetes" else {}
        bunch = getattr(datasets, f"load_{self.name}")(**scaled)
        columns: Columns = {
            str(name): bunch.data[:, i].copy() for i, name in enumerate(bunch.feature_names)
        }
        if self.name == "diabetes":
            columns["sex"] = np.array([f"{value:.0f}" for value in columns["sex"]], object)
            return columns | {TARGETS[self.name]: bunch.target.astype(np.float64)}
        names = [str(name) for name in bunch.target_names]
        return columns | {TARGETS[self.name]: np.array([names[i] for i in bunch.target], object)}


def _check(test_fraction: float, modes: int) -> None:
    if not 0 <= test_fraction < 1:
        raise UserError(
            f"test_fraction is at least 0 and below 1, not {test_fraction}", "test_fraction"
        )
    if modes < 1:
        raise UserError(f"modes is at least 1, not {modes}", "modes")
