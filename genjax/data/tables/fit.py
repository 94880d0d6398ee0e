"""The codec of a table, fitted on its training rows, and the data set that it opens to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.progress import ReadProgress
from genjax.data.splits import HOLD_OUT, digest
from genjax.data.stream import permutation
from genjax.data.tables.codec import CategoryColumn, Columns, NumberColumn, TableCodec
from genjax.data.tables.dates import DateColumn
from genjax.errors import UserError

RARE = 0.005  # modes of less weight are left out, as CTGAN does
DECIMALS = 9  # more than these are not rounding
SEARCHED = 10_000  # numbers in which modes are searched; of more, this many quantiles are taken


@dataclass(frozen=True)
class TableRows:
    """A split of a table, in memory.

    Attributes:
      numeric: where each number lies in its mode, float32 [N, Kn].
      categorical: the mode of each number and then the categories, int32 [N, K].
    """

    numeric: np.ndarray
    categorical: np.ndarray

    @property
    def in_memory(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.numeric)

    def batch(self, indices: np.ndarray) -> Batch:
        return {"numeric": self.numeric[indices], "categorical": self.categorical[indices]}


def table_dataset(
    columns: Columns,
    title: str,
    *,
    target: str | None,
    test_fraction: float,
    seed: int,
    modes: int,
    dates: tuple[DateColumn, ...] = (),
    in_range: bool = True,
) -> Dataset:
    """The data set of a table, whose codec is fitted on the rows of "train".

    A held-out row with a category that no training row has, or without a value in a column that all
    training rows have one in, is moved to the training rows: the first of each kind.

    Args:
      columns: of one length, in the order of the table.
      title: what a person calls it.
      target: the column that is to be predicted from the others, if any.
      test_fraction: of the rows, chosen by the seed; 0 trains on all.
      seed: of the split, and of the search for modes.
      modes: of a column of numbers, at most.
      dates: columns of the table that are several of ``columns``.
      in_range: whether numbers of samples are held within the range of the training rows.

    Raises:
      UserError: too few rows, or only rows with a category of their own would be held out.
    """
    rows = len(next(iter(columns.values())))
    count = max(1, round(rows * test_fraction)) if test_fraction else 0
    if rows - count < 2:
        raise UserError(
            f"{title} has {rows:,} rows, of which {rows - count:,} are left to train on: too few"
        )
    shuffled = permutation(seed, HOLD_OUT, rows)
    parts = {"train": np.sort(shuffled[count:])} | (
        {"test": np.sort(shuffled[:count])} if count else {}
    )
    remarks: tuple[str, ...] = ()
    if count:
        parts, remarks = _move_rows(columns, parts["train"], parts["test"], title)
    codec = fit_codec(columns, parts["train"], target, seed, modes, dates, in_range)
    encoded = codec.encode(columns)
    splits = {
        name: TableRows(encoded["numeric"][part], encoded["categorical"][part])
        for name, part in parts.items()
    }
    means = [splits["train"].numeric.mean(0, dtype=np.float64)]
    for k, size in enumerate(codec.sizes):
        means.append(
            np.bincount(splits["train"].categorical[:, k], minlength=size) / len(splits["train"])
        )
    mean = np.concatenate(means).astype(np.float32)
    spec = Spec("table", mean.shape, mean, categories=codec.sizes)
    fingerprint = _fingerprint(columns, (target, test_fraction, seed, modes))
    return Dataset(splits, spec, codec, fingerprint, remarks=remarks)


def encode_rows(
    columns: Columns, codec: TableCodec, spec: Spec, *, test_fraction: float, seed: int
) -> Dataset:
    """The data set of a table by the codec of a run, which is not fitted to it.

    Raises:
      UserError: a column is missing, or holds what the run cannot encode; row and column are named.
    """
    encoded = codec.encode(columns)
    rows = len(encoded["numeric"])
    count = max(1, round(rows * test_fraction)) if test_fraction else 0
    shuffled = permutation(seed, HOLD_OUT, rows)
    parts = {"train": np.sort(shuffled[count:]), "test": np.sort(shuffled[:count])}
    splits = {
        name: TableRows(encoded["numeric"][part], encoded["categorical"][part])
        for name, part in parts.items()
        if len(part)
    }
    fingerprint = _fingerprint(columns, (codec.target, test_fraction, seed))
    return Dataset(splits, spec, codec, fingerprint)


def _move_rows(
    columns: Columns, train: np.ndarray, test: np.ndarray, title: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The rows to train on and to judge by, so that each category is one of the former's; both
    sorted.

    What was moved is said, and returned as well.
    """
    moved: set[int] = set()
    named: list[str] = []
    for name, values in columns.items():
        numbers = values.dtype.kind == "f"
        kinds = np.isnan(values).tolist() if numbers else values
        seen = {True, False} - {True} if numbers else set()
        seen |= (
            set(kinds[i] for i in train) if not numbers else {bool(np.isnan(values[train]).any())}
        )
        for row in test:
            if kinds[row] not in seen:
                seen.add(kinds[row])
                moved.add(int(row))
                named.append(
                    f"{'no value' if numbers or kinds[row] is None else repr(kinds[row])} in "
                    f"{name!r}"
                )
    if not moved:
        return {"train": train, "test": test}, ()
    rest = np.array([row for row in test if row not in moved], test.dtype)
    if not len(rest):
        raise UserError(
            f"each of the {len(test):,} held-out rows of {title} has a category that no other row "
            "has, such as "
            f"{named[0]}: leave the column out (drop), or hold out none (test_fraction=0)",
            "test_fraction",
        )
    shown = ", ".join(named[:3]) + (", …" if len(named) > 3 else "")
    line = (
        f"{title}: {len(moved):,} of {len(test):,} held-out rows are trained on, as no other "
        f"row has {shown}"
    )
    note(line)
    return {"train": np.sort(np.append(train, sorted(moved))), "test": rest}, (line,)


def fit_codec(
    columns: Columns,
    train: np.ndarray,
    target: str | None,
    seed: int,
    modes: int,
    dates: tuple[DateColumn, ...] = (),
    in_range: bool = True,
) -> TableCodec:
    """The codec of a table, from its training rows ``train`` [M]; what numbers are rounded to is
    seen in all.

    Raises:
      UserError: a column holds no value in any training row.
    """
    numbers, categories = [], []
    progress = ReadProgress()
    for place, (name, values) in enumerate(columns.items(), 1):
        progress.show(f"column {place:,} of {len(columns):,}: {name}")
        if values.dtype.kind == "f":
            rounded = decimals(values[~np.isnan(values)])
            numbers.append(_number_column(name, values[train], rounded, seed, modes, in_range))
        else:
            categories.append(_category_column(name, values[train]))
    return TableCodec(tuple(numbers), tuple(categories), tuple(columns), target, dates)


def _number_column(
    name: str, values: np.ndarray, rounded: int | None, seed: int, modes: int, in_range: bool
) -> NumberColumn:
    known = values[~np.isnan(values)]
    if not len(known):
        raise _empty(name)
    found = mixture(known, modes, seed)
    used = np.unique(
        NumberColumn(name, *found).encode(_quantiles(known))[1]
    )  # a mode of no number would be learned in vain
    weights, means, stds = (tuple(part[i] for i in used) for part in found)
    limits = (float(known.min()), float(known.max())) if in_range else (None, None)
    return NumberColumn(name, weights, means, stds, rounded, len(known) < len(values), *limits)


def _category_column(name: str, values: np.ndarray) -> CategoryColumn:
    known = {value for value in values if value is not None}
    if not known:
        raise _empty(name)
    return CategoryColumn(name, tuple(sorted(known)), any(value is None for value in values))


def _empty(name: str) -> UserError:
    return UserError(f"column {name!r} holds no value in any training row; leave it out (drop)")


def mixture(
    values: np.ndarray, modes: int, seed: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Weights, means and standard deviations of a variational mixture of at most this many
    Gaussians.

    The prior is that of CTGAN: a Dirichlet process that gives weight to as few of them as it can.
    Of more than ``SEARCHED`` values it sees that many evenly spaced quantiles, smallest and largest
    among them.

    Args:
      values: [N], all finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    centre, scale = values.mean(), values.std()
    distinct = len(np.unique(values))
    if distinct == 1 or not scale > 0:
        return (1.0,), (float(centre),), (1.0,)
    model = BayesianGaussianMixture(
        n_components=min(modes, distinct),
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=1e-3,
        random_state=seed % 2**32,
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # the bound still creeps; the modes stand
        model.fit(
            ((_quantiles(values) - centre) / scale)[:, None]
        )  # its floor under variances is one of standardised numbers
    chosen = model.weights_ >= min(RARE, model.weights_.max())
    weights = model.weights_[chosen] / model.weights_[chosen].sum()
    means = centre + scale * model.means_[chosen, 0]
    stds = scale * np.sqrt(model.covariances_[chosen, 0, 0])
    return tuple(weights.tolist()), tuple(means.tolist()), tuple(stds.tolist())


def _quantiles(values: np.ndarray) -> np.ndarray:
    if len(values) <= SEARCHED:
        return values
    return np.sort(values)[np.linspace(0, len(values) - 1, SEARCHED).round().astype(np.int64)]


def decimals(values: np.ndarray) -> int | None:
    """After how many decimals numbers [N] are rounded, 0 for whole ones; None if they are not."""
    return next(
        (
            places
            for places in range(DECIMALS + 1)
            if np.array_equal(np.round(values, places), values)
        ),
        None,
    )


def _fingerprint(columns: Columns, how: tuple[object, ...]) -> str:
    """Of the values and how they are split and fitted, not of the fit, whose last bits depend
    on the machine.
    """
    parts = [repr(how).encode()]
    for name, values in columns.items():
        stored = values if values.dtype.kind == "f" else np.array([repr(value) for value in values])
        parts += [
            f"{name} {stored.dtype.kind} {stored.shape}".encode(),
            np.ascontiguousarray(stored).tobytes(),
        ]
    return digest(parts)
