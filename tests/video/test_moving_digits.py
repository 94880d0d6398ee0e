"""Moving MNIST: paths that bounce, clips that are sums of their digits, and the published floor."""

import os
from dataclasses import dataclass

import numpy as np
import pytest

from genjax import gx
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import Arrays, array_fingerprint, dataset
from genjax.data.video.bouncing import draw_clip, find_paths, shrink
from genjax.errors import UserError


@dataclass(frozen=True)
class Squares:
    """Images of 4 x 4 pixels, each of one brightness."""

    shape: tuple[int, ...] = (4, 4, 1)

    def open(self) -> Dataset:
        values = np.array([60, 120, 180, 240], np.uint8)
        raw = np.broadcast_to(values[:, None, None, None], (4, *self.shape)).copy()
        codec = ImageCodec(*self.shape)
        splits = {
            "train": Arrays("image", raw[:2], None, codec),
            "test": Arrays("image", raw[2:], None, codec),
        }
        return dataset(splits, classes=None, fingerprint=array_fingerprint(splits))


def small(**fields) -> gx.MovingDigits:
    sizes = {"side": 12, "digit": 4, "frames": 6, "size": 40, "test_size": 8}
    return gx.MovingDigits(Squares(), **{**sizes, **fields})


def test_paths_are_straight_until_they_stop_at_an_edge_and_turn():
    paths = find_paths(np.array([[0.5, 0.5], [0.5, 0.95]]), np.array([0.0, np.pi / 4]), 4, 0.1)
    np.testing.assert_allclose(paths[0], [[0.5, 0.6], [0.5, 0.7], [0.5, 0.8], [0.5, 0.9]])
    step = 0.1 / np.sqrt(2)
    wanted = [[0.5 + step, 1.0], [0.5 + 2 * step, 1 - step], [0.5 + 3 * step, 1 - 2 * step]]
    np.testing.assert_allclose(paths[1, :3], wanted)
    many = find_paths(np.random.default_rng(0).uniform(size=(50, 2)), np.arange(50.0), 60, 0.1)
    assert many.min() >= 0 and many.max() <= 1
    assert np.linalg.norm(np.diff(many, axis=1), axis=-1).max() <= 0.1 + 1e-9


def test_where_digits_overlap_the_brighter_one_shows():
    digits = np.stack([np.full((2, 2), 100), np.full((2, 2), 200)]).astype(np.uint8)
    paths = np.array([[[0.0, 0.0]], [[0.5, 0.5]]])  # corners (0, 0) and (1, 1)
    clip = draw_clip(digits, paths, 4)
    wanted = np.zeros((4, 4), np.uint8)
    wanted[:2, :2], wanted[1:3, 1:3] = 100, 200
    np.testing.assert_array_equal(clip[0], wanted)


def test_a_clip_depends_on_the_seed_and_its_number_alone():
    splits = small().open().splits
    whole = splits["train"].batch(np.arange(40))["image"]
    assert whole.shape == (40, 12, 12, 6) and whole.dtype == np.float32
    np.testing.assert_array_equal(splits["train"].batch(np.array([7, 3]))["image"], whole[[7, 3]])
    fewer = small(size=10, test_size=2).open().splits["train"].batch(np.arange(10))["image"]
    np.testing.assert_array_equal(fewer, whole[:10])
    other = small(seed=1).open()
    assert (other.splits["train"].batch(np.arange(4))["image"] != whole[:4]).any()
    assert other.fingerprint != small().open().fingerprint
    # Training clips show training digits only, test clips the others.
    known = {int(v) for v in np.rint((whole + 1) * 127.5).ravel()}
    held_out = splits["test"].batch(np.arange(8))["image"]
    assert known == {0, 60, 120}
    assert {int(v) for v in np.rint((held_out + 1) * 127.5).ravel()} == {0, 180, 240}


def test_digits_move_whole():
    """In every frame, one digit covers its area, with its brightness."""
    clips = small(digits=1).open().splits["train"].batch(np.arange(20))["image"]
    values = np.rint((clips + 1) * 127.5)
    assert ((values > 0).sum((1, 2)) == 16).all()


def test_images_are_reduced_by_averaging():
    image = np.array([[[0, 100, 8, 8], [100, 200, 8, 8], [0] * 4, [0] * 4]], np.uint8)
    np.testing.assert_array_equal(shrink(image, 2), [[[100, 8], [0, 0]]])


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"side": 4}, "side"), ({"frames": 1}, "frames"), ({"step": 0.0}, "step")],
)
def test_sizes_that_leave_nothing_to_move_are_refused(fields, field):
    with pytest.raises(UserError) as caught:
        small(**fields)
    assert caught.value.field == field


def test_images_that_are_no_digits_are_refused():
    for source, digit, field in ((Squares((4, 4, 3)), 4, "source"), (Squares(), 6, "digit")):
        with pytest.raises(UserError) as caught:
            gx.MovingDigits(source, side=12, digit=digit).open()
        assert caught.value.field == field


@pytest.mark.skipif("GENJAX_DATA" not in os.environ, reason="needs MNIST below GENJAX_DATA")
def test_the_floor_of_moving_mnist_is_near_the_published_one():
    """86.3 nats a frame (Kalchbrenner et al., arXiv 1610.00527) on the published test clips."""
    clips = gx.MovingDigits().open().splits["test"].batch(np.arange(400))["image"][..., 10:]
    p = (clips.astype(np.float64) + 1) / 2
    inner = np.clip(p, 1e-12, 1 - 1e-12)
    entropy = -(p * np.log(inner) + (1 - p) * np.log(1 - inner)).sum((1, 2)).mean(1)
    error = entropy.std() / np.sqrt(len(entropy))
    assert abs(entropy.mean() - 86.3) < 3 * error + 1
