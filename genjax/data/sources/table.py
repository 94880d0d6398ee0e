"""Tables of numbers and categories: from files, and those shipped with scikit-learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.stand_in import part_folder
from genjax.data.tables.codec import Columns, TableCodec
from genjax.data.tables.delimited import check_dialect, choose_dialect
from genjax.data.tables.files import MISSING, StoredTable, read_table
from genjax.data.tables.fit import Normalise, Numbers, encode_rows, table_dataset
from genjax.data.tables.types import NUMBER, Typed
from genjax.data.tally import format_counts
from genjax.errors import UserError, unknown_name

# The file and the column to predict of each table of UCI.
FILES = {"adult": ("adult.csv", "income"), "abalone": ("abalone.data", "Rings")}
# The column to predict of each table.
TARGETS = {
    "breast_cancer": "diagnosis",
    "wine": "cultivar",
    "iris": "species",
    "diabetes": "progression",
}


@checks.frozen
class Table:
    """Reads the rows of a CSV or TSV file, plain or compressed (".gz"), or of a Parquet file.

    A column holds numbers if all its values are numbers, dates or times if all are in ISO form, and
    categories otherwise; if most but not all are numbers, the user must say which it is. Ids, free
    text, and numbers and dates in other forms are refused by name. Samples are written like the
    data: numbers rounded alike, dates in the same form, and missing values missing.

    Attributes:
      path: path of the file.
      target: column to predict from the others, for example by ``TrainOnSynthetic``; None for none.
      numeric: columns that must hold numbers.
      categorical: columns of categories, even if they look like numbers.
      drop: columns to leave out, such as names and numbers of records.
      missing: texts that stand for a missing value, besides blanks and the empty text; surrounding
        blanks are ignored.
      test_fraction: fraction of held-out rows; 0 trains on all.
      seed: seed of the split and of the search for modes.
      modes: most modes of a numeric column.
      encoding: encoding of CSV and TSV.
      root: folder to which ``path`` is relative, if it differs between machines; None for the
        current one.
      in_range: whether numbers of samples are clipped to the range of the training rows.
      delimiter: character between values; None for a tab in .tsv and a comma otherwise.
      quote: character around values that contain the delimiter; "" for none; None for none in .tsv
        and double quotes otherwise.
      escape: character that makes the next one literal; None for none.
      normalise: form of numbers: "modes" for CTGAN's mixture of Gaussians, "quantiles" for normal
        quantiles, as a diffusion takes them, which keeps samples in the range of training rows.
      constraints: what all rows keep, and so will samples: ranges such as "age in [17, 90]",
        implications such as "if sex='Male' then age>=18", sums such as "net + tax = gross".
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
    normalise: Normalise = "modes"
    constraints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(self.test_fraction, self.modes)
        _check_normalise(self.normalise)
        check_dialect(self.delimiter, self.quote, self.escape)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B,
        K].
        """
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
            numbers=Numbers(self.modes, self.in_range, self.normalise),
            dates=typed.dates,
            constraints=self.constraints,
        )
        return dataclasses.replace(data, remarks=(*remarks, *data.remarks))

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """Open the rows encoded by the codec of a run, with the column types of the run.

        Raises:
          UserError: a column is missing, or has a value that no training row of the run has.
        """
        if not isinstance(codec, TableCodec):
            raise UserError("the set does not fit the run, which has learned no table", "data")
        table, dated = self._read(), {part for d in codec.dates for part in d.parts.values()}
        known = [n for n in codec.order if n not in dated] + [date.name for date in codec.dates]
        for name in known:
            table.check(name)
        extra = [name for name in table.columns if name not in known]
        if extra:
            note(f"{table.title}: left out, as the run does not have them: {', '.join(extra)}")
        kept = {name: cells for name, cells in table.columns.items() if name in known}
        numbers, categories = (
            tuple(column.name for column in columns if column.name not in dated)
            for columns in (codec.numbers, codec.categories)
        )
        numbers += tuple(codec.rules.totals)
        typed = dataclasses.replace(table, columns=kept).convert_columns(numbers, categories)
        return encode_rows(
            typed.columns, codec, spec, test_fraction=self.test_fraction, seed=self.seed
        )

    def _read(self) -> StoredTable:
        path = Path(self.root or "").expanduser() / Path(self.path).expanduser()
        dialect = choose_dialect(path.name, self.delimiter, self.quote, self.escape)
        return read_table(path, self.encoding, self.missing, self.drop, dialect)


def _remarks(table: StoredTable, typed: Typed) -> tuple[str, ...]:
    """Print what was skipped or reinterpreted, if anything was, in one line; return the line, or
    ().
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
        found.append("all column names are numbers: if they are values, the file lacks a header")
    alike = [f"{count:,} in {name!r}" for name, count in typed.alike.items() if count]
    if alike:
        found.append(f"categories differ only in blanks and case, {', '.join(alike[:5])}")
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
    """Opens a table shipped with scikit-learn, with the column to predict last.

      breast_cancer: 569 tumours, 30 measures, ``diagnosis``: malignant or benign.
      wine: 178 wines, 13 measures, ``cultivar``: class_0, class_1 or class_2.
      iris: 150 flowers, 4 measures, ``species``: setosa, versicolor or virginica.
      diabetes: 442 patients, 9 measures and the category ``sex``, ``progression``, a number.

    Attributes:
      name: one of the names above.
      test_fraction: fraction of held-out rows.
      seed: seed of the split and of the search for modes.
      modes: most modes of a numeric column.
      normalise: form of numbers, as in ``Table``.
    """

    name: str = "breast_cancer"
    test_fraction: float = 0.25
    seed: int = 0
    modes: int = 10
    normalise: Normalise = "modes"

    def __post_init__(self) -> None:
        if self.name not in TARGETS:
            raise unknown_name("table", self.name, TARGETS)
        checks.at_least(self, 0, "seed")
        _check(self.test_fraction, self.modes)
        _check_normalise(self.normalise)

    def open(self) -> Dataset:
        """Open the data set; batches hold ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B,
        K].
        """
        return table_dataset(
            self._make_columns(),
            f"scikit-learn's {self.name}",
            target=TARGETS[self.name],
            test_fraction=self.test_fraction,
            seed=self.seed,
            numbers=Numbers(self.modes, normalise=self.normalise),
        )

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """Open the rows encoded by the codec of a run.

        Raises:
          UserError: the run was trained on another table.
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


@checks.frozen
class UCITable:
    """Reads Adult or Abalone from tables/ of $GENJAX_DATA, with the column to predict as target.

      adult: 32,561 people, the official training part, ``income``: >50K or <=50K; " ?" is a value.
      abalone: 4,177 shells, ``Rings``, a number.

    Without the data it generates a small table of the same form, and says so.

    Attributes:
      name: one of the names above.
      root: folder of the files; None for tables/ of $GENJAX_DATA.
      normalise: form of numbers, as in ``Table``.
      constraints: what rows keep, as in ``Table``.
      test_fraction: fraction of held-out rows.
      seed: seed of the split.
    """

    name: str = "adult"
    root: str | None = None
    normalise: Normalise = "quantiles"
    constraints: tuple[str, ...] = ()
    test_fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in FILES:
            raise unknown_name("table", self.name, FILES)
        self._table("")

    def open(self) -> Dataset:
        """Open the data set, as ``Table`` does."""
        return self._table(part_folder("tables", self.root)).open()

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """Open the rows encoded by the codec of a run, as ``Table`` does."""
        return self._table(part_folder("tables", self.root)).open_as(spec, codec)

    def _table(self, folder: str) -> Table:
        path, target = FILES[self.name]
        return Table(
            path,
            target,
            root=folder,
            test_fraction=self.test_fraction,
            seed=self.seed,
            normalise=self.normalise,
            constraints=self.constraints,
        )


def _check(test_fraction: float, modes: int) -> None:
    if not 0 <= test_fraction < 1:
        raise UserError(f"test_fraction must be >= 0 and < 1, got {test_fraction}", "test_fraction")
    if modes < 1:
        raise UserError(f"modes must be >= 1, got {modes}", "modes")


def _check_normalise(normalise: str) -> None:
    if normalise not in get_args(Normalise):
        raise unknown_name("normalise", normalise, get_args(Normalise))
