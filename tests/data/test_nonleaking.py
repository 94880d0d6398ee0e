"""Augmentation as a condition: the network receives the augmentation that was applied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.diffusion.augment import SIZE, NonLeaking

KEY = jax.random.key(0)


def test_an_image_of_which_nothing_is_told_is_as_it_was_and_the_told_can_be_undone():
    images = jax.random.uniform(KEY, (400, 6, 6, 2))
    changed, told = (np.asarray(a) for a in jax.jit(NonLeaking(0.3, shift=0))(KEY, images))
    images = np.asarray(images)
    plain = (told == 0).all(-1)
    assert 0.1 < plain.mean() < 0.5
    np.testing.assert_array_equal(changed[plain], images[plain])
    for image, original, (across, down, cos, sin, *_) in zip(changed, images, told, strict=True):
        turns = int(np.round(np.arctan2(sin, 1 - cos) / (np.pi / 2))) % 4
        undone = np.rot90(image, -turns)
        undone = undone[::-1] if down else undone
        np.testing.assert_array_equal(undone[:, ::-1] if across else undone, original)


def test_shifts_go_as_far_as_told():
    image = jnp.zeros((300, 8, 8, 1)).at[:, 4, 4].set(1.0)
    changed, told = (np.asarray(a) for a in NonLeaking(0.5, shift=2)(KEY, image))
    only_shifted = (told[:, :4] == 0).all(-1)
    assert only_shifted.sum() > 20 and np.abs(told[only_shifted, 4:6]).max() == 1
    for one, (rows, columns) in zip(
        changed[only_shifted], told[only_shifted, 4:6] * 2, strict=True
    ):
        assert one[int(4 + rows), int(4 + columns), 0] == 1


def test_each_is_done_as_often_as_asked():
    _, told = NonLeaking(0.2)(KEY, jnp.zeros((5000, 4, 4, 1)))
    assert told.shape == (5000, SIZE)
    np.testing.assert_allclose(told[:, :2].mean(0), 0.2, atol=5 * np.sqrt(0.16 / 5000))


def test_without_augmentation_nothing_is_told():
    x = jnp.ones((2, 4, 4, 1))
    assert (
        NonLeaking()(KEY, x) == (x, None)
        and NonLeaking().make_null(3) is None
        and NonLeaking().size == 0
    )
    assert NonLeaking(0.1).make_null(3).shape == (3, SIZE)


def test_what_cannot_be_augmented_is_refused():
    with pytest.raises(UserError, match="prob must be at least 0 and below 1"):
        NonLeaking(1.0)
    with pytest.raises(UserError, match="shift must be at least 0"):
        NonLeaking(0.1, shift=-1)
    with pytest.raises(UserError, match="square images"):
        NonLeaking(0.1).check(Spec("image", (4, 6, 1), np.zeros((4, 6, 1))))
