"""Fit the codec of a table to its training rows, and open the table as a data set."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genjax.data.dataset import Batch, Dataset, Spec
from genjax.data.images.decode import note
from genjax.data.progress import ReadProgress
from genjax.data.splits import HOLD_OUT, digest
from genjax.data.stream import permutation
from genjax.data.tables.codec import CategoryColumn, Columns, NumberColumn, TableCodec
from genjax.data.tables.constraints import check_constraints, list_values, parse_constraints
from genjax.data.tables.dates import DateColumn
from genjax.data.tables.quantiles import QuantileColumn, fit_quantiles
from genjax.errors import UserError

Normalise = Literal["modes", "quantiles"]

RARE = 0.005  # modes with less weight are dropped, as in CTGAN
DECIMALS = 9  # numbers with more decimals do not count as rounded
SEARCHED = 10_000  # most numbers used to fit modes; of a longer column, this many quantiles


@dataclass(frozen=True)
class TableRows:
    """A split of a table, in memory.

    Attributes:
      numeric: position of each number in its mode, float32 [N, Kn].
      categorical: mode of each number and then the categories, int32 [N, K].
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


@dataclass(frozen=True)
class Numbers:
    """How numbers are encoded.

    Attributes:
      modes: most modes of a column.
      in_range: whether numbers of samples are clipped to the range of the training rows.
      normalise: "modes" or "quantiles".
    """

    modes: int = 10
    in_range: bool = True
    normalise: Normalise = "modes"


def table_dataset(
    columns: Columns,
    title: str,
    *,
    target: str | None,
    test_fraction: float,
    seed: int,
    numbers: Numbers,
    dates: tuple[DateColumn, ...] = (),
    constraints: tuple[str, ...] = (),
) -> Dataset:
    """Return the data set of a table, with a codec fitted to "train".

    The training rows must cover every category, and a missing value in each column that has any: if
    they do not, the first such held-out row is moved to them.

    Args:
      columns: columns of equal length, in the order of the table.
      title: name of the table in messages.
      target: column to predict from the others, if any.
      test_fraction: fraction of held-out rows, chosen by the seed; 0 trains on all.
      seed: seed of the split and of the search for modes.
      numbers: how numbers are encoded.
      dates: date columns of the table, each of which is split into several of ``columns``.
      constraints: what all rows keep, see ``genjax.data.tables.constraints``.

    Raises:
      UserError: there are too few rows, every held-out row has a category of its own, or a row
        breaks one of the ``constraints``.
    """
    rules = parse_constraints(constraints, list_values(columns))
    check_constraints(rules, columns, title)
    parts, remarks = hold_out(columns, title, test_fraction, seed)
    codec = fit_codec(columns, parts["train"], target, seed, numbers, dates, constraints)
    how = (target, test_fraction, seed, numbers.modes)
    extra = () if numbers.normalise == "modes" else (numbers.normalise,)
    return encode_parts(columns, codec, parts, (*how, *extra, *constraints), remarks)


def hold_out(
    columns: Columns, title: str, test_fraction: float, seed: int
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the rows of "train" and, if any are held out, of "test", sorted; and remarks.

    Raises:
      UserError: as for ``table_dataset``.
    """
    rows = len(next(iter(columns.values())))
    count = max(1, round(rows * test_fraction)) if test_fraction else 0
    if rows - count < 2:
        raise UserError(
            f"{title} has too few rows: {rows:,}, of which {rows - count:,} are left for training"
        )
    shuffled = permutation(seed, HOLD_OUT, rows)
    if not count:
        return {"train": np.sort(shuffled)}, ()
    return _move_rows(columns, np.sort(shuffled[count:]), np.sort(shuffled[:count]), title)


def encode_parts(
    columns: Columns,
    codec: TableCodec,
    parts: Mapping[str, np.ndarray],
    how: tuple[object, ...],
    remarks: tuple[str, ...] = (),
) -> Dataset:
    """Return the data set of a table, encoded by the codec that was fitted to it.

    Args:
      columns: columns of equal length.
      codec: the fitted codec.
      parts: rows of each split, by name.
      how: options of split and fit, which the fingerprint depends on.
      remarks: sentences for the reader.
    """
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
    spec = Spec(
        "table", mean.shape, mean, categories=codec.sizes, conditions=codec.find_conditions()
    )
    return Dataset(splits, spec, codec, _fingerprint(columns, how), remarks=remarks)


def encode_rows(
    columns: Columns, codec: TableCodec, spec: Spec, *, test_fraction: float, seed: int
) -> Dataset:
    """Return the data set of a table encoded by the codec of a run.

    Raises:
      UserError: a column is missing, or has a value that the run cannot encode; the message names
        row and column.
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
    """Move held-out rows so that the training rows cover all categories; return both, sorted.

    The moves are printed, and returned as remarks.
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
    form: Numbers,
    dates: tuple[DateColumn, ...] = (),
    constraints: tuple[str, ...] = (),
) -> TableCodec:
    """Fit the codec of a table to its training rows ``train`` [M], but decimals to all rows.

    Raises:
      UserError: a column has no value in any training row.
    """
    totals = parse_constraints(constraints, list_values(columns)).totals
    numbers: list[NumberColumn | QuantileColumn] = []
    categories = []
    progress = ReadProgress()
    for place, (name, values) in enumerate(columns.items(), 1):
        progress.show(f"column {place:,} of {len(columns):,}: {name}")
        if name in totals:
            continue
        if values.dtype.kind == "f":
            rounded = decimals(values[~np.isnan(values)])
            if np.isnan(values[train]).all():
                raise _empty(name)
            numbers.append(
                fit_quantiles(name, values[train], rounded)
                if form.normalise == "quantiles"
                else _number_column(name, values[train], rounded, seed, form)
            )
        else:
            categories.append(_category_column(name, values[train]))
    return TableCodec(tuple(numbers), tuple(categories), tuple(columns), target, dates, constraints)


def _number_column(
    name: str, values: np.ndarray, rounded: int | None, seed: int, form: Numbers
) -> NumberColumn:
    known = values[~np.isnan(values)]
    found = mixture(known, form.modes, seed)
    # A mode without numbers would be useless.
    used = np.unique(NumberColumn(name, *found).encode(_quantiles(known))[1])
    weights, means, stds = (tuple(part[i] for i in used) for part in found)
    limits = (float(known.min()), float(known.max())) if form.in_range else (None, None)
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
    """Fit a variational mixture of at most ``modes`` Gaussians.

    The prior is that of CTGAN, a Dirichlet process that prefers few Gaussians. If there are more
    than ``SEARCHED`` values, it uses as many evenly spaced quantiles, including the extremes.

    Args:
      values: finite numbers [N].
      modes: largest number of Gaussians.
      seed: seed of the search.

    Returns:
      Weights, means and standard deviations.
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
        # The bound still changes slowly, but the modes have settled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Its lower limit on variances assumes standardised numbers.
        model.fit(((_quantiles(values) - centre) / scale)[:, None])
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
    """Return the decimals to which numbers [N] are rounded, 0 for whole numbers; None if they are
    not.
    """
    return next(
        (
            places
            for places in range(DECIMALS + 1)
            if np.array_equal(np.round(values, places), values)
        ),
        None,
    )


def _fingerprint(columns: Columns, how: tuple[object, ...]) -> str:
    """Hash the values and the options of split and fit, not the fit itself, which depends on the
    machine in its last bits.
    """
    parts = [repr(how).encode()]
    for name, values in columns.items():
        stored = values if values.dtype.kind == "f" else np.array([repr(value) for value in values])
        parts += [
            f"{name} {stored.dtype.kind} {stored.shape}".encode(),
            np.ascontiguousarray(stored).tobytes(),
        ]
    return digest(parts)
