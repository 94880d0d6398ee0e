"""Flowers: a label is the number of petals, and pictures depend on the seed and their place."""

from __future__ import annotations

import numpy as np
import pytest

from genjax.data.sources import Flowers
from genjax.data.sources.drawn.flowers import CHOICES, PETALS, render_flowers
from genjax.errors import UserError


@pytest.fixture(scope="module")
def data():
    return Flowers(120, 30).open()


def test_batches_hold_images_and_labels(data):
    batch = data.splits["train"].batch(np.arange(120))
    assert data.spec.shape == (32, 32, 3) and data.spec.classes == len(PETALS)
    assert batch["image"].shape == (120, 32, 32, 3) and batch["image"].dtype == np.float32
    assert -1 <= batch["image"].min() < -0.5 < 0.5 < batch["image"].max() <= 1
    assert batch["label"].dtype == np.int32
    assert set(batch["label"].tolist()) == set(range(len(PETALS)))
    assert len(data.splits["test"]) == 30


@pytest.mark.parametrize("label", range(len(PETALS)))
def test_the_label_is_the_number_of_petals(label):
    """On a circle just outside the inner ring, petals and ground take turns."""
    chosen = np.full((1, CHOICES), 0.5)
    chosen[0, 0] = (label + 0.5) / len(PETALS)
    chosen[0, [6, 8]] = 0  # a dark ground, dark leaves
    picture = render_flowers(chosen, 512)[0].astype(float)
    turns = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    at = np.rint(255.5 + 0.58 * 256 * np.stack([np.sin(turns), np.cos(turns)])).astype(int)
    inside = picture[at[0], at[1], 0] > 120  # petals are red; ground and leaves are not
    assert (inside & ~np.roll(inside, 1)).sum() == PETALS[label]


def test_edges_are_smooth_and_sizes_agree():
    """A picture is about the mean of a finer one."""
    chosen = np.random.default_rng(0).random((8, CHOICES))
    coarse, fine = render_flowers(chosen, 32).astype(float), render_flowers(chosen, 128)
    mean = fine.reshape(8, 32, 4, 32, 4, 3).mean((2, 4))
    assert abs(coarse - mean).mean() < 3


def test_pictures_depend_on_the_seed_and_their_place_alone(data):
    more = Flowers(150, 10).open()
    rows = np.arange(120)
    for entry in ("image", "label"):
        np.testing.assert_array_equal(
            more.splits["train"].batch(rows)[entry], data.splits["train"].batch(rows)[entry]
        )
    assert Flowers(120, 30).open().fingerprint == data.fingerprint
    assert Flowers(120, 30, seed=1).open().fingerprint != data.fingerprint
    first = data.splits["test"].batch(rows[:30])["image"]
    assert not np.array_equal(first, data.splits["train"].batch(rows[:30])["image"])


def test_a_side_of_ones_own_is_drawn():
    assert Flowers(5, 2, side=12).open().spec.shape == (12, 12, 3)
    assert Flowers(1, 1, side=1024).open().spec.shape == (1024, 1024, 3)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"size": 0}, "size"),
        ({"side": 11}, "side"),
        ({"side": 1025}, "side"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_pictures_are_refused(fields, field):
    with pytest.raises(UserError) as error:
        Flowers(**fields)
    assert error.value.field == field and field in str(error.value)
