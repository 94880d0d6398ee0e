"""Growing nets: a stage that begins equals the end of the one before, and every size is reached."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.gan.progressive import Progressive, downsample, upsample

NETS = Progressive((8, 6, 4))
SHAPE = (14, 10, 2)
SIZES = ((4, 3), (7, 5), (14, 10))
Z = jax.random.normal(jax.random.key(1), (3, 5))


@pytest.fixture(scope="module")
def maker():
    net = NETS.generator(SHAPE)
    return net, net.init(jax.random.key(0), Z, train=True, stage=2)


@pytest.fixture(scope="module")
def judge():
    net = NETS.features(SHAPE)
    return net, net.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=True)


def test_sizes_go_up_to_that_of_the_data():
    assert NETS.sizes(SHAPE) == SIZES
    with pytest.raises(UserError, match="one pixel"):
        Progressive((4,) * 7).sizes((28, 28, 1))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_every_stage_gives_and_sees_its_size(maker, judge, stage):
    image = maker[0].apply(maker[1], Z, train=True, stage=stage)
    assert image.shape == (3, *SIZES[stage], 2)
    assert judge[0].apply(judge[1], image, train=True).shape == (3, 4 * 3 * 8)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_begins_where_the_one_before_ended(maker, judge, stage):
    before = maker[0].apply(maker[1], Z, train=True, stage=stage - 1)
    begins = maker[0].apply(maker[1], Z, train=True, stage=stage, fade=0.0)
    np.testing.assert_allclose(begins, upsample(before, SIZES[stage - 1 : stage + 1]), atol=1e-6)
    x = jax.random.normal(jax.random.key(2), (3, *SIZES[stage], 2))
    old = judge[0].apply(judge[1], downsample(x, 1), train=True)
    np.testing.assert_allclose(judge[0].apply(judge[1], x, train=True, fade=0.0), old, atol=1e-5)
    assert not np.allclose(judge[0].apply(judge[1], x, train=True, fade=1.0), old, atol=1e-3)


def test_means_of_blocks_and_doubling_undo_each_other():
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 1))
    np.testing.assert_allclose(downsample(upsample(x, ((4, 3), (8, 6), (16, 12))), 2), x, rtol=1e-6)
    odd = jnp.arange(9.0).reshape(1, 3, 3, 1)
    np.testing.assert_allclose(downsample(odd, 1)[0, :, :, 0], [[2, 3.5], [6.5, 8]])
