"""Sources of pairs of tables, a row of the first to many of the second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Dataset, Spec
from genjax.data.tables.codec import Columns
from genjax.data.tables.delimited import choose_dialect
from genjax.data.tables.files import MISSING, StoredTable, read_table
from genjax.data.tables.fit import Normalise, Numbers, encode_rows
from genjax.data.tables.related import Pair, RelatedCodec, Relation, related_dataset, widen
from genjax.errors import UserError, unknown_name

PLANS = ("basic", "plus")
RATES = (1.0, 2.5)  # orders of a customer of each plan, before they are cut at the most
ITEMS = ("book", "tool", "toy")
SHARED, OWN = 0.4, 0.3  # deviations of the logarithm of amounts, among customers and among orders


@checks.frozen
class RelatedTables:
    """Reads two tables of which each row of the second belongs to a row of the first, such as
    customers and their orders.

    A parent with its children is one example; held out are whole ones. The files are as for
    ``Table``; the key itself is not modelled.

    Attributes:
      parents: path of the table of parents.
      children: path of the table of children.
      key: column of both tables; parents have different keys, and each child that of its parent.
      most: most children of a parent.
      count: name for the number of children, which samples and conditions know.
      target: column of parents that a diffusion draws rows given, if it has categories; None for
        none.
      numeric: columns of either table that must hold numbers.
      categorical: columns of categories, even if they look like numbers.
      drop: columns to leave out.
      missing: texts that stand for a missing value, besides blanks and the empty text.
      test_fraction: fraction of held-out parents.
      seed: seed of the split and of the search for modes.
      normalise: form of numbers, as in ``Table``.
      root: folder to which both paths are relative; None for the current one.
    """

    parents: str
    children: str
    key: str
    most: int = 8
    count: str = "children"
    target: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    test_fraction: float = 0.2
    seed: int = 0
    normalise: Normalise = "quantiles"
    root: str | None = None

    def __post_init__(self) -> None:
        _check(self.most, self.test_fraction)

    def open(self) -> Dataset:
        """Open the pair; batches hold ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B, K].

        Raises:
          UserError: a file cannot be read, two parents have one key, or a child has no parent.
        """
        pair = self._read()
        if self.target is not None and self.target not in pair.parents:
            raise unknown_name("target column", self.target, pair.parents)
        return related_dataset(
            pair,
            Relation(self.key, self.count, self.most, self.target),
            f"{Path(self.parents).name} and {Path(self.children).name}",
            test_fraction=self.test_fraction,
            seed=self.seed,
            numbers=Numbers(normalise=self.normalise),
        )

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """Open the pair encoded by the codec of a run.

        Raises:
          UserError: the run has learned no such pair, or a column or value is unknown to it.
        """
        return _open_as(self._read(), spec, codec, self.test_fraction, self.seed)

    def _read(self) -> Pair:
        stored = []
        for path in (self.parents, self.children):
            place = Path(self.root or "").expanduser() / Path(path).expanduser()
            dialect = choose_dialect(place.name, None, None, None)
            table = read_table(place, "utf-8", self.missing, self.drop, dialect)
            table.check(self.key)
            stored.append(table)
        known = {*stored[0].columns, *stored[1].columns}
        for name in (*self.numeric, *self.categorical):
            if name not in known:
                raise unknown_name("column", name, known)
        owner = match_keys(stored[0], stored[1], self.key)
        parents, children = (self._convert(table) for table in stored)
        return Pair(parents, children, owner)

    def _convert(self, table: StoredTable) -> Columns:
        cells = {name: column for name, column in table.columns.items() if name != self.key}
        if not cells:
            raise UserError(f"{table.title} must have a column besides {self.key!r}", "key")
        rest = StoredTable(table.title, cells, table.words, table.left)
        chosen = ([n for n in names if n in cells] for names in (self.numeric, self.categorical))
        typed = rest.convert_columns(*chosen)
        if typed.dates:
            raise UserError(
                f"{table.title} has dates in {typed.dates[0].name!r}, which a pair of tables does "
                "not take yet: leave the column out (drop)",
                "drop",
            )
        return typed.columns


@checks.frozen
class Customers:
    """Generates customers and their orders, whose relations are known.

    A customer has an ``age``, a ``region`` and a ``plan``; an order an ``item`` and an ``amount``.
    Those of plan "plus" have min(n, most) orders with n from a Poisson distribution of mean 2.5,
    others of mean 1. Amounts are lognormal, and exp(0.5) times as large with "plus"; the logarithms
    of two orders of one customer correlate with 0.64, given the plan. Toys are for the young: their
    share falls from about 0.8 at the age of 18 to 0.1 at 80, the rest are books and tools alike.

    Attributes:
      size: number of customers.
      most: most orders of a customer.
      test_fraction: fraction of held-out customers.
      seed: seed of the tables and of the split.
    """

    size: int = 4000
    most: int = 5
    test_fraction: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        checks.at_least(self, 20, "size")
        checks.at_least(self, 0, "seed")
        _check(self.most, self.test_fraction)

    def open(self) -> Dataset:
        """Open the pair, as ``RelatedTables`` does; rows are drawn given the plan."""
        return related_dataset(
            draw_customers(self.size, self.most, self.seed),
            Relation("customer", "orders", self.most, "plan"),
            "customers and orders",
            test_fraction=self.test_fraction,
            seed=self.seed,
            numbers=Numbers(normalise="quantiles"),
        )

    def open_as(self, spec: Spec, codec: Component) -> Dataset:
        """Open the pair encoded by the codec of a run, as ``RelatedTables`` does."""
        drawn = draw_customers(self.size, self.most, self.seed)
        return _open_as(drawn, spec, codec, self.test_fraction, self.seed)


def draw_customers(size: int, most: int, seed: int) -> Pair:
    """Draw customers and their orders, see ``Customers``."""
    rng = np.random.default_rng(seed)
    plus = rng.random(size) < 0.4
    age = np.clip(rng.normal(45, 15, size), 18, 90).round()
    number = np.minimum(rng.poisson(np.where(plus, RATES[1], RATES[0])), most)
    owner = np.repeat(np.arange(size), number)
    taste = SHARED * rng.normal(size=size)
    log = 3 + (0.5 * plus + taste)[owner] + OWN * rng.normal(size=len(owner))
    toy = rng.random(len(owner)) < 1 / (1 + np.exp((age[owner] - 42) / 17))
    item = np.where(toy, 2, rng.integers(0, 2, len(owner)))
    customers: Columns = {
        "age": age,
        "region": np.array(("north", "south", "west"), object)[
            rng.choice(3, size, p=(0.5, 0.3, 0.2))
        ],
        "plan": np.array(PLANS, object)[plus.astype(int)],
    }
    orders: Columns = {"item": np.array(ITEMS, object)[item], "amount": np.exp(log).round(2)}
    return Pair(customers, orders, owner)


def match_keys(parents: StoredTable, children: StoredTable, key: str) -> np.ndarray:
    """Return the row [M] of each child's parent.

    Raises:
      UserError: a key is missing, two parents have the same, or a child's is no parent's.
    """
    rows: dict[str, int] = {}
    for number, cell in enumerate(parents.columns[key], 1):
        if cell is None or cell.strip() in rows:
            what = "no value" if cell is None else f"{cell!r}, as another row has,"
            raise UserError(
                f"row {number:,} of {parents.title} has {what} in {key!r}: keys of parents must be "
                "there and differ",
                "key",
            )
        rows[cell.strip()] = number - 1
    found = []
    for number, cell in enumerate(children.columns[key], 1):
        if cell is None or cell.strip() not in rows:
            what = "no value" if cell is None else repr(cell)
            raise UserError(
                f"row {number:,} of {children.title} has {what} in {key!r}, the key of no row of "
                f"{parents.title}: every child must have a parent",
                "key",
            )
        found.append(rows[cell.strip()])
    return np.array(found, np.int64)


def _open_as(pair: Pair, spec: Spec, codec: Component, test_fraction: float, seed: int) -> Dataset:
    if not isinstance(codec, RelatedCodec):
        raise UserError("the set does not fit the run, which has learned no pair of tables", "data")
    if np.bincount(pair.owner).max(initial=0) > codec.most:
        raise UserError(
            f"a parent has more than {codec.most} children, the most of the run", "data"
        )
    wide = widen(pair, codec.count, codec.most)
    return encode_rows(wide, codec, spec, test_fraction=test_fraction, seed=seed)


def _check(most: int, test_fraction: float) -> None:
    if not 1 <= most <= 100:
        raise UserError(f"most must be >= 1 and <= 100, got {most}", "most")
    if not 0 <= test_fraction < 1:
        raise UserError(f"test_fraction must be >= 0 and < 1, got {test_fraction}", "test_fraction")
