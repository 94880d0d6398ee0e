"""Distances of feature sets: closed forms, plain loops over all pairs, published figures,
refused input.
"""

import itertools

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from genjax.errors import UserError
from genjax.evaluation.features import distances
from genjax.evaluation.features.distances import (
    Manifold,
    frechet,
    frechet_distance,
    kernel_distance,
    manifold,
    mean_pairwise_distance,
    mmd,
    moments,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def rotation(width, seed=0):
    return np.linalg.qr(normal(width, width, seed=seed))[0]


@pytest.mark.parametrize("rotated", [False, True])
def test_the_frechet_distance_of_gaussians_with_common_axes_is_that_of_their_deviations(rotated):
    axes = rotation(6) if rotated else np.eye(6)
    one, two = np.array([1, 2, 0.1, 3, 0, 1e-3]), np.array([2, 2, 0.5, 0, 4, 1e-2])
    mean = np.arange(6.0)
    covariances = [axes @ np.diag(x**2) @ axes.T for x in (one, two)]
    found = frechet(mean, covariances[0], mean + 2, covariances[1])
    np.testing.assert_allclose(found, 6 * 4 + np.square(one - two).sum(), rtol=1e-12)


def test_the_frechet_distance_equals_that_by_the_root_of_the_product():
    for seed in range(3):
        roots = [normal(8, 8, seed=2 * seed + i) for i in (0, 1)]
        one, two = (x @ x.T + 0.1 * np.eye(8) for x in roots)
        mean = normal(2, 8, seed=seed)
        root = scipy.linalg.sqrtm(one @ two).real
        expected = np.square(mean[0] - mean[1]).sum() + np.trace(one + two - 2 * root)
        np.testing.assert_allclose(frechet(mean[0], one, mean[1], two), expected, rtol=1e-8)


def test_singular_covariances_lose_no_digits():
    zero = np.zeros(40)
    u, v = normal(2, 40)
    lines = frechet(zero, np.outer(u, u), zero, np.outer(v, v))
    np.testing.assert_allclose(lines, u @ u + v @ v - 2 * abs(u @ v), rtol=1e-12)
    flat = normal(40, 5) @ np.diag([1, 1e2, 1e-2, 1e-4, 1]) @ normal(5, 40, seed=1)
    flat = flat @ flat.T
    assert frechet(zero, flat, zero, flat) < 1e-12 * np.trace(flat)
    np.testing.assert_allclose(frechet(zero, flat, zero, 4 * flat), np.trace(flat), rtol=1e-12)
    assert frechet(zero, 0 * flat, zero, 0 * flat) == 0


def test_the_frechet_distance_of_sets_takes_their_means_and_unbiased_covariances(monkeypatch):
    monkeypatch.setattr(distances, "PAIRS", 64)  # rows at once
    a, b = normal(200, 7), 2 * normal(150, 7, seed=1) + 1
    np.testing.assert_allclose(moments(a)[1], np.cov(a, rowvar=False), rtol=1e-10, atol=1e-14)
    expected = frechet(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    np.testing.assert_allclose(frechet_distance(a, b), expected, rtol=1e-10)
    np.testing.assert_allclose(frechet_distance(a, a + 3), 7 * 9, rtol=1e-10)
    assert frechet_distance(a, a[::-1]) < 1e-10


def test_features_far_from_the_origin_keep_their_frechet_distance():
    a, b = (normal(300, 5, seed=seed).astype(np.float32) for seed in (0, 1))
    near, far = frechet_distance(a, b), frechet_distance(a + 1000, b + 1000)
    np.testing.assert_allclose(far, near, rtol=2e-3)  # what float32 leaves of the sets themselves


def plain_mmd(a, b):
    kernel = lambda x, y: (x @ y / len(x) + 1) ** 3  # noqa: E731
    own = [np.mean([kernel(x, y) for x, y in itertools.permutations(rows, 2)]) for rows in (a, b)]
    return sum(own) - 2 * np.mean([kernel(x, y) for x in a for y in b])


def test_mmd_equals_a_loop_over_all_pairs(monkeypatch):
    a, b = normal(40, 6).astype(np.float32), normal(33, 6, seed=1).astype(np.float32) + 0.3
    expected = plain_mmd(a.astype(float), b.astype(float))
    np.testing.assert_allclose(mmd(a, b), expected, rtol=1e-6)
    monkeypatch.setattr(distances, "CHUNK", 16)
    np.testing.assert_allclose(mmd(a, b), expected, rtol=1e-6)
    np.testing.assert_allclose(mmd(b, a), expected, rtol=1e-6)


def test_mmd_is_unbiased():
    # In one dimension E k(x, x') = 4 under N(0, 1), 32 under N(1, 1), and E k(x, y) = 7 between
    # them.
    draw = np.random.default_rng(0)
    for shift, expected in ((0, 0.0), (1, 4 + 32 - 2 * 7)):
        found = np.array(
            [mmd(draw.normal(size=(20, 1)), draw.normal(size=(20, 1)) + shift) for _ in range(400)]
        )
        error = found.std() / np.sqrt(len(found))
        assert abs(found.mean() - expected) < 3 * error
        assert found.min() < 0  # as no biased estimate, a square of a norm, can be


def test_the_kernel_distance_is_the_mean_over_subsets_with_its_standard_error():
    a, b = normal(60, 3), normal(80, 3, seed=1) + 0.5
    found = kernel_distance(a, b, subset=20, subsets=6, seed=5)
    draw = np.random.default_rng(5)
    each = []
    for _ in range(6):
        rows = [draw.choice(len(x), 20, replace=False) for x in (a, b)]
        each.append(plain_mmd(a[rows[0]], b[rows[1]]))
    np.testing.assert_allclose(found, (np.mean(each), np.std(each, ddof=1) / np.sqrt(6)), rtol=1e-5)
    assert kernel_distance(a, b, 20, 6, seed=5) == found != kernel_distance(a, b, 20, 6, seed=6)
    whole, error = kernel_distance(a, b[:60], subset=60, subsets=3)
    np.testing.assert_allclose(whole, mmd(a, b[:60]), rtol=1e-6)
    assert error < 1e-6


def plain_manifold(real, fake, k):
    def radii(x):
        apart = cdist(x, x)
        return np.array([np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(apart)])

    apart = cdist(real, fake)  # by subtraction
    in_real, in_fake = apart <= radii(real)[:, None], apart <= radii(fake)[None]
    return Manifold(
        in_real.any(0).mean(),
        in_fake.any(1).mean(),
        in_real.sum(0).mean() / k,
        in_real.any(1).mean(),
    )


def lattice(n, width, seed):
    return np.random.default_rng(seed).integers(0, 3, (n, width)).astype(np.float32)


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (normal(140, 5), normal(90, 5, seed=1) * 0.8 + 0.3),
        (
            lattice(140, 3, 0),
            lattice(90, 3, 1),
        ),  # duplicates, and many points on the borders of balls
        (lattice(140, 3, 0) + 4096, lattice(90, 3, 1) + 4096),
        (normal(140, 5).astype(np.float32) + 5000, normal(90, 5, seed=1).astype(np.float32) + 5000),
        (normal(140, 5), np.repeat(normal(3, 5, seed=1), 30, axis=0)),  # three modes, nothing else
        (normal(60, 5), np.concatenate([normal(60, 5), normal(20, 5, seed=1)])),  # with copies
    ],
)
@pytest.mark.parametrize("k", [1, 4])
def test_the_manifolds_equal_a_plain_count(monkeypatch, real, fake, k):
    monkeypatch.setattr(distances, "CHUNK", 64)
    np.testing.assert_allclose(manifold(real, fake, k), plain_manifold(real, fake, k), rtol=1e-12)


def test_the_manifolds_of_points_on_a_line_are_counted_by_hand():
    real = np.array([[0.0], [1], [3], [10]])  # up to the nearest other: 1, 1, 2, 7
    fake = np.array([[0.5], [1.5], [30], [40]])  # 1, 1, 10, 10
    # Balls around the fake points: 0.5 lies in those of 0 and 1; 1.5 of 1 and 3; 30 and 40 in none.
    # 10 has none.
    assert manifold(real, fake, k=1) == (2 / 4, 2 / 4, 4 / 4, 3 / 4)


def test_the_order_of_the_points_does_not_matter():
    real, fake = normal(70, 4), normal(50, 4, seed=1)
    again = manifold(real[np.random.default_rng(2).permutation(70)], fake[::-1].copy(), 3)
    np.testing.assert_allclose(again, manifold(real, fake, 3), rtol=1e-12)


def test_a_set_lies_in_its_own_manifold_and_a_collapsed_one_covers_little():
    real = normal(100, 4)
    assert (
        manifold(real, real.copy(), 3)[:2] == (1, 1)
        and manifold(real, real.copy(), 3).coverage == 1
    )
    one = manifold(real, np.repeat(real[:1], 100, axis=0), 3)
    assert (
        one.precision == 1 and one.recall == 1 / 100
    )  # its balls are points, and one of them real
    assert one.coverage < 0.1
    same = np.ones((20, 4))
    assert manifold(same, same, 3) == (1, 1, 20 / 3, 1)


def test_density_and_coverage_of_one_law_are_their_expectations():
    # Ranks alone decide, whatever the law: 1, and 1 - prod (N - i) / (M + N - i), i = 1 .. k (arXiv
    # 2002.09797).
    draw = np.random.default_rng(0)
    found = np.array(
        [manifold(draw.normal(size=(300, 3)), draw.normal(size=(200, 3)), 5) for _ in range(20)]
    )
    error = found.std(0) / np.sqrt(20)
    steps = np.arange(1, 6)
    expected = (1, 1 - np.prod((300 - steps) / (500 - steps)))
    assert (np.abs(found.mean(0)[2:] - expected) < 3 * error[2:]).all() and (error[2:] < 0.02).all()


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_draws_of_one_gaussian_give_the_published_figures():
    # 10,000 of N(0, I) in 1,000 dimensions against as many: the README of Naeem et al.'s own code
    # (arXiv 2002.09797), of one draw. Draws spread by 0.012 (precision, recall), 0.06 (density) and
    # 0.007 (coverage).
    found = []
    for seed in range(3):
        draw = np.random.default_rng(seed)
        found.append(
            manifold(*(draw.normal(size=(10_000, 1000)).astype(np.float32) for _ in range(2)), k=5)
        )
    mean = Manifold(*np.mean(found, axis=0))
    np.testing.assert_allclose(mean.density, 1.0555, atol=0.1)
    rest = (mean.precision, mean.recall, mean.coverage)
    np.testing.assert_allclose(rest, (0.4772, 0.4705, 0.9735), atol=0.03)


def test_the_mean_pairwise_distance_is_over_different_rows():
    x = normal(30, 4).astype(np.float32) + 3000
    exact = scipy.spatial.distance.pdist(x.astype(float)).mean()
    np.testing.assert_allclose(
        mean_pairwise_distance(x), exact, rtol=1e-12
    )  # 435 pairs: all of them
    two = np.array([[0.0, 0], [3, 4]])
    assert mean_pairwise_distance(two, pairs=1) == 5
    apart = scipy.spatial.distance.pdist(wide := normal(300, 4))
    drawn = [mean_pairwise_distance(wide, pairs=2000, seed=seed) for seed in (0, 1)]
    assert drawn[0] != drawn[1] and drawn[0] == mean_pairwise_distance(wide, pairs=2000)
    np.testing.assert_allclose(drawn, apart.mean(), atol=4 * apart.std() / np.sqrt(2000))
    np.testing.assert_allclose(
        mean_pairwise_distance(np.eye(9), pairs=30), np.sqrt(2)
    )  # never a row with itself


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: frechet_distance(a, a[:1]), r"at least 2 examples, got \[1, 3\]"),
        (lambda a: mmd(a, a[0]), r"features \[N, F\] of at least 2 examples, got \[3\]"),
        (lambda a: mmd(a, a[:, :2]), "features differ in width: 3 and 2"),
        (
            lambda a: manifold(a, np.where(a > 1, np.nan, a)),
            "[1-9] of 10 rows are not",
        ),
        (lambda a: mean_pairwise_distance(a + np.inf), "finite, but 10 of 10 rows are not"),
        (
            lambda a: manifold(a, a[:5], 5),
            "k must be from 1 to 4, got 5",
        ),
        (lambda a: manifold(a, a, 0), "k must be from 1 to"),
        (lambda a: kernel_distance(a, a[:8], subset=9), "subset must be <= 8 .rows., got 9"),
        (
            lambda a: kernel_distance(a, a, subset=1),
            "subset and subsets must be >= 2, got 1 and 100",
        ),
        (
            lambda a: kernel_distance(a, a, subset=5, subsets=1),
            "subset and subsets must be >= 2, got 5 and 1",
        ),
        (lambda a: mean_pairwise_distance(a, pairs=0), "pairs must be >= 1, got 0"),
    ],
)
def test_what_has_no_distance_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call(normal(10, 3))
