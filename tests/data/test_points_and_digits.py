from __future__ import annotations

import numpy as np
import pytest

from genjax.data.sources import Digits, Points
from genjax.data.sources.points import DISTRIBUTIONS
from genjax.errors import UserError


def test_digits_are_the_real_ones_split_once():
    from sklearn.datasets import load_digits

    data = Digits().open()
    train, test = data.splits["train"], data.splits["test"]
    assert (len(train), len(test)) == (1500, 297)
    parts = [split.batch(np.arange(len(split))) for split in (train, test)]
    assert parts[0]["image"].shape == (1500, 8, 8, 1) and parts[0]["label"].dtype == np.int32
    images = np.concatenate([part["image"] for part in parts]).reshape(1797, 64)
    rows = np.column_stack([(images + 1) * 8, np.concatenate([part["label"] for part in parts])])
    bunch = load_digits()
    whole = np.column_stack([bunch.data, bunch.target])
    assert sorted(map(tuple, np.rint(rows))) == sorted(map(tuple, whole))
    assert np.bincount(parts[1]["label"], minlength=10).min() > 15
    np.testing.assert_allclose(data.spec.mean, parts[0]["image"].mean(axis=0), atol=1e-6)
    assert data.spec.classes == 10 and data.codec.levels == 17
    # the split and the pixels, pinned: another numpy must give the same
    assert data.fingerprint == "e5f15262f4f666d9d56c8bc6d4687feb"


def draw(**fields):
    data = Points(size=20_000, **fields).open()
    batch = data.splits["train"].batch(np.arange(20_000))
    return data, batch["points"].astype(np.float64), batch.get("label")


@pytest.mark.parametrize("name", ["eight_gaussians", "twenty_five_gaussians"])
def test_gaussians_have_their_means_and_spread(name):
    data, points, label = draw(distribution=name)
    centres, std = Points(name).modes()
    count = len(centres)
    assert data.spec.classes == count and std == DISTRIBUTIONS[name][1]
    assert label.dtype == np.int32
    shares = np.bincount(label, minlength=count) / len(label)
    assert np.abs(shares - 1 / count).max() < 5 * np.sqrt(1 / count / len(label))
    residual = points - centres[label]
    assert np.abs(residual.mean(axis=0)).max() < 5 * std / np.sqrt(len(label))
    np.testing.assert_allclose(residual.std(axis=0), std, rtol=0.03)
    assert abs(np.corrcoef(residual.T)[0, 1]) < 0.05
    np.testing.assert_allclose(
        np.mean((residual / std) ** 4), 3, rtol=0.1
    )  # normal, not merely that wide
    if name == "eight_gaussians":
        np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 2)
        assert len(np.unique(centres.round(6), axis=0)) == 8
    else:
        assert {tuple(c) for c in centres} == {
            (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
        }


def test_wide_moons_are_moons_moved_along_the_diagonal():
    _, points, label = draw(distribution="wide_moons")
    moon = (points + 1) / 3
    centre = np.where(label[:, None] == 0, np.array([[0.0, 0.0]]), np.array([[1.0, 0.5]]))
    away = moon - centre  # a point of the unit circle and v / 5 in both coordinates
    # |away - s (1, 1)| = 1 has its root s in [0, 1/5).
    mean, square = away.sum(-1) / 2, (away**2).sum(-1)
    roots = np.stack(
        [mean + sign * np.sqrt(np.maximum(mean**2 - (square - 1) / 2, 0)) for sign in (-1, 1)]
    )
    assert ((roots > -1e-5) & (roots < 0.2 + 1e-5)).any(0).all()


def test_two_moons_without_noise_lie_on_their_circles():
    _, points, label = draw(distribution="two_moons", noise=0.0)
    upper, lower = points[label == 0], points[label == 1]
    np.testing.assert_allclose(np.linalg.norm(upper, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(lower - [1, 0.5], axis=1), 1, atol=1e-5)
    assert upper[:, 1].min() > -1e-5 and lower[:, 1].max() < 0.5 + 1e-5
    np.testing.assert_allclose(upper.mean(axis=0), [0, 2 / np.pi], atol=0.03)


def test_swiss_roll_without_noise_is_a_spiral():
    data, points, label = draw(distribution="swiss_roll", noise=0.0)
    assert label is None and data.spec.classes is None
    t = 5 * np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(points, np.stack([t * np.cos(t), t * np.sin(t)], 1) / 5, atol=1e-4)
    np.testing.assert_allclose(
        [t.min(), t.mean(), t.max()], np.pi * np.array([1.5, 3, 4.5]), rtol=0.01
    )


def test_checkerboard_fills_half_the_squares_evenly():
    _, points, label = draw(distribution="checkerboard")
    cells = np.floor((points + 4) / 2).astype(int)
    assert cells.min() >= 0 and cells.max() <= 3
    assert (cells.sum(axis=1) % 2 == 0).all()
    assert len(np.unique(np.column_stack([cells, label]), axis=0)) == 8
    inside = (points + 4) / 2 - cells
    np.testing.assert_allclose(inside.var(axis=0), 1 / 12, rtol=0.03)
    np.testing.assert_allclose(points.var(axis=0), 64 / 12, rtol=0.03)


def test_noise_adds_its_variance():
    _, clean, _ = draw(distribution="swiss_roll", noise=0.0)
    _, noisy, _ = draw(distribution="swiss_roll", noise=0.5)
    np.testing.assert_allclose((noisy - clean).std(axis=0), 0.5, rtol=0.03)


def test_points_depend_on_the_seed_alone():
    assert Points(size=50).open().fingerprint == Points(size=50).open().fingerprint
    assert Points(size=50).open().fingerprint != Points(size=50, seed=1).open().fingerprint
    few, many = (
        Points(size=size).open().splits["train"].batch(np.arange(50)) for size in (50, 500)
    )
    assert np.array_equal(few["points"], many["points"])
    data = Points(size=50, test_size=50).open()
    train, test = (data.splits[name].batch(np.arange(50))["points"] for name in ("train", "test"))
    assert not np.isin(train, test).any()


def test_standardise_by_the_training_points():
    data = Points("swiss_roll", size=5000, standardise=True).open()
    points = data.splits["train"].batch(np.arange(5000))["points"]
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(points.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(data.spec.mean, 0, atol=1e-5)
    plain = Points("swiss_roll", size=5000).open().splits["test"].batch(np.arange(9))["points"]
    test = data.splits["test"].batch(np.arange(9))["points"]
    np.testing.assert_allclose(data.codec.decode(test), plain, atol=1e-5)


def test_bad_points_are_refused():
    with pytest.raises(UserError, match="did you mean 'two_moons'"):
        Points("two_mons")
    with pytest.raises(UserError, match="size must be from 1"):
        Points(size=0)
    for noise in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="noise"):
            Points(noise=noise)
    with pytest.raises(UserError, match="no modes"):
        Points("checkerboard").modes()
