"""Two tables of the UCI repository that models of tables are compared on: Adult and Abalone."""

from __future__ import annotations

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Dataset, Spec
from genjax.data.sources.table import Table
from genjax.data.stand_in import part_folder
from genjax.data.tables.fit import Normalise
from genjax.errors import unknown_name

FILES = {"adult": ("adult.csv", "income"), "abalone": ("abalone.data", "Rings")}


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
