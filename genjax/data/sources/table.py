"""Tables of numbers and categories: from files, and those that scikit-learn ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genjax.data.dataset import Dataset
from genjax.data.table_codec import Columns
from genjax.data.table_files import MISSING, read_table
from genjax.data.table_fit import table_dataset
from genjax.errors import UserError, unknown

# name: the column that is to be predicted
TARGETS = {
    "breast_cancer": "diagnosis",
    "wine": "cultivar",
    "iris": "species",
    "diabetes": "progression",
}


@dataclass(frozen=True)
class Table:
    """The rows of a CSV or TSV file, plain or (".gz") compressed by gzip, or of one of Parquet.

    A column holds numbers where all its values are such, and categories otherwise; where most of them are numbers but
    not all, it has to be said which. What numbers are rounded to is remembered, whole ones among them. A missing value
    stays one.

    Attributes:
      path: of the file.
      target: the column that is to be predicted from the others, such as by ``TrainOnSynthetic``; None for none.
      numeric: columns that have to hold numbers.
      categorical: columns that hold categories though they may look like numbers.
      drop: columns that are left out, such as names and numbers of records.
      missing: what cells without a value hold.
      test_fraction: share of the rows that is held out; 0 trains on all.
      seed: of the split, and of the search for the modes of numbers.
      modes: of a column of numbers, at most.
      encoding: of CSV and TSV.
      root: the folder that ``path`` is below, where it may differ from machine to machine; None for the current one.
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

    def __post_init__(self) -> None:
        _check(self.test_fraction, self.modes)

    def open(self) -> Dataset:
        """Batches of ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B, K]."""
        table = read_table(
            Path(self.root or "").expanduser() / Path(self.path).expanduser(), self.encoding, self.missing, self.drop
        )
        if self.target is not None:
            table.check(self.target)
        return table_dataset(
            table.typed(self.numeric, self.categorical),
            table.title,
            target=self.target,
            test_fraction=self.test_fraction,
            seed=self.seed,
            modes=self.modes,
        )


@dataclass(frozen=True)
class EmbeddedTable:
    """A table that scikit-learn ships, with what is to be predicted as its last column.

      breast_cancer: 569 tumours, 30 measures, ``diagnosis``: malignant or benign.
      wine: 178 wines, 13 measures, ``cultivar``: class_0, class_1 or class_2.
      iris: 150 flowers, 4 measures, ``species``: setosa, versicolor or virginica.
      diabetes: 442 patients, 9 measures and the category ``sex``, ``progression``, which is a number.

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
            raise unknown("table", self.name, TARGETS)
        _check(self.test_fraction, self.modes)

    def open(self) -> Dataset:
        """Batches of ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B, K]."""
        return table_dataset(
            self._columns(),
            f"scikit-learn's {self.name}",
            target=TARGETS[self.name],
            test_fraction=self.test_fraction,
            seed=self.seed,
            modes=self.modes,
        )

    def _columns(self) -> Columns:
        from sklearn import datasets

        scaled = {"scaled": False} if self.name == "diabetes" else {}
        bunch = getattr(datasets, f"load_{self.name}")(**scaled)
        columns: Columns = {str(name): bunch.data[:, i].copy() for i, name in enumerate(bunch.feature_names)}
        if self.name == "diabetes":
            columns["sex"] = np.array([f"{value:.0f}" for value in columns["sex"]], object)
            return columns | {TARGETS[self.name]: bunch.target.astype(np.float64)}
        names = [str(name) for name in bunch.target_names]
        return columns | {TARGETS[self.name]: np.array([names[i] for i in bunch.target], object)}


def _check(test_fraction: float, modes: int) -> None:
    if not 0 <= test_fraction < 1:
        raise UserError(f"test_fraction is at least 0 and below 1, not {test_fraction}")
    if modes < 1:
        raise UserError(f"modes is at least 1, not {modes}")
