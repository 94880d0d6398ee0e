"""Distances between two sets of features [N, F]: Fréchet, kernel, precision, recall, density,
coverage.

Sums and differences are float64 on the host; matrix products between the sets, most of the work,
run in chunks on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError

CHUNK = 512  # rows compared with all others at once
PAIRS = 4096  # pairs of rows subtracted at once
# The possible error of |a|^2 - 2ab + |b|^2, relative to |a|^2 + |b|^2: about 100 float32 roundings.
DOUBT = 1e-5
SPARE = 8  # neighbours considered beyond the k-th, as rounding may swap them


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the squared Fréchet distance of Gaussians fitted to features [N, F] and [M, F]
    (Heusel et al., arXiv 1706.08500).

    On Inception's features it is the FID. Its bias falls with N and M: compare only numbers at
    equal sizes.

    Raises:
      UserError: features are not [N >= 2, F] of one width, or not finite.
    """
    _check(a, b)
    return frechet(*moments(a), *moments(b))


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean [F] and unbiased covariance [F, F] of features [N, F], float64.

    Raises:
      UserError: as ``frechet_distance``.
    """
    _check(features)
    mean = features.mean(0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for rows in _chunks(len(features), PAIRS):
        centred = features[rows] - mean[None]
        covariance += centred.T @ centred
    return mean, covariance / (len(features) - 1)


def frechet(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Compute the squared 2-Wasserstein distance of two Gaussians with means [F] and covariances
    [F, F], singular or not.

    With covariances L L^T and R R^T, the trace of the root of L^T R R^T L is the sum of the
    singular values of L^T R. Unlike roots of eigenvalues near 0, these lose no digits.
    """
    left, right = _factor(cov_a), _factor(cov_b)
    root = np.linalg.svd(left.T @ right, compute_uv=False).sum()
    distance = (
        np.square(mean_a - mean_b).sum() + np.square(left).sum() + np.square(right).sum() - 2 * root
    )
    return max(0.0, float(distance))  # negative only by rounding


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Factor the covariance [F, F] as L L^T; return L [F, rank]."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    # Smaller eigenvalues are rounding.
    kept = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0)
    return vectors[:, kept] * np.sqrt(values[kept])[None]


def kernel_distance(
    a: np.ndarray, b: np.ndarray, subset: int = 1000, subsets: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Compute the unbiased kernel distance of features [N, F] and [M, F] (KID; Binkowski et al.,
    arXiv 1801.01401).

    Return the mean of ``mmd`` over ``subsets`` draws of ``subset`` rows without repetition from
    each set, and its standard error. The draws share rows: if subsets x subset is far above N, the
    error is only that of drawing subsets.

    Raises:
      UserError: as ``frechet_distance``, or there are fewer rows than ``subset``; with a smaller
          one the error would be meaningless.
    """
    _check(a, b)
    if subset < 2 or subsets < 2:
        raise UserError(f"subset and subsets must be >= 2, got {subset} and {subsets}", "subset")
    if subset > min(len(a), len(b)):
        raise UserError(
            f"subset must be <= {min(len(a), len(b)):,} (rows), got {subset:,}", "subset"
        )
    draw = np.random.default_rng(seed)
    rows = lambda x: x[draw.choice(len(x), subset, replace=False)]  # noqa: E731
    found = np.array([_mmd(rows(a), rows(b)) for _ in range(subsets)])
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(subsets))


def mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Estimate MMD^2 without bias, with the kernel (x.y / F + 1)^3, from features [N, F] and [M,
    F].

    It may be below 0 by chance if the distributions are alike.

    Raises:
      UserError: as ``frechet_distance``.
    """
    _check(a, b)
    return _mmd(a, b)


def _mmd(a: np.ndarray, b: np.ndarray) -> float:
    return _kernel(a, a, same=True) + _kernel(b, b, same=True) - 2 * _kernel(a, b)


def _kernel(a: np.ndarray, b: np.ndarray, same: bool = False) -> float:
    """Average the kernel over all pairs of rows, without pairs of a row with itself if the sets are
    the ``same``.
    """
    total = 0.0
    for rows, products in _products(a, b):
        values = products / a.shape[1]
        # The kernel minus 1, which cancels in MMD^2 and would only cost digits.
        values *= values * values + 3 * values + 3
        total += values.sum() - (values[np.arange(len(rows)), rows].sum() if same else 0)
    return total / (len(a) * (len(b) - same))


def _products(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield inner products of the rows of a [N, F] with those of b [M, F]: row numbers [C] and
    products [C, M], float64.
    """
    columns = jnp.asarray(b, jnp.float32).T
    for rows in _chunks(len(a), CHUNK):
        part = jnp.asarray(a[rows], jnp.float32)
        yield rows, np.asarray(jnp.dot(part, columns, precision="highest"), np.float64)


class Manifold(NamedTuple):
    """How much two sets cover each other's manifolds: balls around each point up to its k-th
    neighbour.

    Attributes:
      precision: share of the fake points within the real manifold (Kynkäänniemi et al., arXiv
        1904.06991).
      recall: share of the real points within the fake manifold (same paper).
      density: number of real balls around a fake point, over k; above 1 where fakes crowd (Naeem et
        al., arXiv 2002.09797).
      coverage: share of the real points with a fake point in their ball (same paper).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: np.ndarray, fake: np.ndarray, k: int = 5) -> Manifold:
    """Compare features [N, F] and [M, F] by their manifolds; balls include their border, and no
    point is its own neighbour.

    Raises:
      UserError: as ``frechet_distance``, or ``k`` is not from 1 to min(N, M) - 1.
    """
    _check(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise UserError(f"k must be from 1 to {min(len(real), len(fake)) - 1:,}, got {k}", "k")
    real_radius, fake_radius = _radii(real, k), _radii(fake, k)
    balls = np.zeros(len(fake))  # real ones around each fake point
    covered, recalled = [], []
    for near in _iterate_distances(real, fake):
        within = _are_within(near, real_radius[near.rows, None], real, fake)
        balls += within.sum(0)
        covered.append(within.any(1))
        recalled.append(_are_within(near, fake_radius[None], real, fake).any(1))
    shares = (balls > 0, np.concatenate(recalled), balls / k, np.concatenate(covered))
    return Manifold(*(float(share.mean()) for share in shares))


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Compute the distances [N] of points [N, F] to their k-th neighbours, not counting
    themselves.
    """
    count = min(k + SPARE, len(points) - 1)
    found = []
    for rows, squared, _ in _iterate_distances(points, points):
        squared[np.arange(len(rows)), rows] = np.inf
        nearest = np.argpartition(squared, count - 1, axis=1)[:, :count]
        distance = _distances(points, points, np.repeat(rows, count), nearest.ravel())
        found.append(np.sort(distance.reshape(-1, count), axis=1)[:, k - 1])
    return np.concatenate(found)


class _Near(NamedTuple):
    """Squared distances [C, M] of some ``rows`` [C] to all of another set, exactly 0 for equal
    points, and bounds of their errors [C, M], below 0 if exact.
    """

    rows: np.ndarray
    squared: np.ndarray
    error: np.ndarray


def _iterate_distances(a: np.ndarray, b: np.ndarray) -> Iterator[_Near]:
    """Yield distances of all rows of a [N, F] to all of b [M, F], by |a|^2 - 2ab + |b|^2 around the
    mean of a.
    """
    numbers: dict[bytes, int] = {}
    same_a, same_b = (
        np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in x]) for x in (a, b)
    )
    centre = a.mean(0, dtype=np.float64).astype(np.float32)
    a, b = (np.asarray(x - centre[None], np.float32) for x in (a, b))
    norm_a, norm_b = (np.square(x, dtype=np.float64).sum(1) for x in (a, b))
    for rows, products in _products(a, b):
        norms = norm_a[rows, None] + norm_b[None]
        equal = same_a[rows, None] == same_b[None]
        yield _Near(
            rows, np.where(equal, 0, norms - 2 * products), np.where(equal, -1, DOUBT * norms)
        )


def _are_within(near: _Near, radius: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return which pairs [C, M] are within ``radius`` [C, 1] or [1, M]; doubtful ones are decided
    by subtraction.
    """
    limit = np.broadcast_to(np.square(radius), near.squared.shape)
    found = near.squared <= limit
    row, column = np.nonzero(np.abs(near.squared - limit) <= near.error)
    reach = np.broadcast_to(radius, limit.shape)[row, column]
    found[row, column] = _distances(a, b, near.rows[row], column) <= reach
    return found


def mean_pairwise_distance(x: np.ndarray, pairs: int = 20_000, seed: int = 0) -> float:
    """Compute the mean Euclidean distance of two different rows of features [N, F].

    It is over all pairs, or over ``pairs`` drawn with repetition if there are more.

    Raises:
      UserError: as ``frechet_distance``, or ``pairs`` is below 1.
    """
    _check(x)
    if pairs < 1:
        raise UserError(f"pairs must be >= 1, got {pairs}", "pairs")
    size = len(x)
    if pairs >= size * (size - 1) // 2:
        first, second = np.triu_indices(size, 1)
    else:
        draw = np.random.default_rng(seed)
        first = draw.integers(size, size=pairs)
        second = (first + draw.integers(1, size, size=pairs)) % size  # never the same row
    return float(_distances(x, x, first, second).mean())


def _distances(a: np.ndarray, b: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Compute Euclidean distances [P] of a[rows] to b[columns] by subtraction in float64: exactly 0
    for equal points.
    """
    found = np.empty(len(rows))
    for part in _chunks(len(rows), PAIRS):
        found[part] = np.linalg.norm(
            np.subtract(a[rows[part]], b[columns[part]], dtype=np.float64), axis=1
        )
    return found


def _chunks(size: int, chunk: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + chunk, size)) for start in range(0, size, chunk))


def _check(*sets: np.ndarray) -> None:
    for features in sets:
        if features.ndim != 2 or len(features) < 2:
            raise UserError(
                f"distances need features [N, F] of at least 2 examples, got {list(features.shape)}"
            )
        if not np.isfinite(features).all():
            raise UserError(
                f"features must be finite, but {(~np.isfinite(features).all(1)).sum():,} of "
                f"{len(features):,} rows are not"
            )
    if len({features.shape[1] for features in sets}) > 1:
        raise UserError(
            f"features differ in width: {' and '.join(str(features.shape[1]) for features in sets)}"
        )
