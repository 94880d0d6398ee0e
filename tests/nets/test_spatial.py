"""The spatial coder: grids of every image size, blocks that begin as they should, nothing but
convolutions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.conv.conv import stage_sizes
from genjax.nets.conv.spatial import PixelDense, SpatialBlock, SpatialCoder

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(28, 28, 1), (17, 30, 3), (9, 5, 2), (1, 4, 1)])
@pytest.mark.parametrize("channels", [(3,), (3, 4)])
def test_a_grid_in_the_middle_and_the_same_size_at_the_end(shape, channels):
    coder = SpatialCoder(channels, residual_blocks=1)
    encoder, decoder = coder.encoder(5), coder.decoder(shape, outputs_per_dim=2)

    def run(x):
        z, _ = encoder.init_with_output(KEY, x)
        return z, decoder.init_with_output(KEY, z)[0]

    z, y = jax.eval_shape(run, jnp.zeros((2, *shape)))
    assert z.shape == (2, *stage_sizes(shape, len(channels))[-1], 5)
    assert y.shape == (2, *shape[:2], 2 * shape[2])


def test_a_residual_block_is_its_input_and_two_convolutions():
    x = jax.random.normal(KEY, (2, 5, 4, 8))
    block = SpatialBlock("tanh")
    params = jax.jit(block.init)(KEY, x)["params"]
    kernel, bias = (np.asarray(params["conv"][name]) for name in ("kernel", "bias"))
    assert kernel.shape == (3, 3, 8, 2)
    h = np.pad(np.tanh(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = sum(h[:, i : i + 5, j : j + 4] @ kernel[i, j] for i in range(3) for j in range(3)) + bias
    dense = params["output"]["dense"]
    want = np.asarray(x) + np.tanh(y) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    np.testing.assert_allclose(block.apply({"params": params}, x), want, rtol=1e-4, atol=1e-5)


def test_a_1x1_convolution_mixes_channels_and_no_pixels():
    x = jax.random.normal(KEY, (2, 3, 4, 5))
    net = PixelDense(6)
    params = net.init(KEY, x)
    changed = net.apply(params, x.at[1, 2, 3].add(1.0)) != net.apply(params, x)
    assert changed.shape == (2, 3, 4, 6) and changed[1, 2, 3].all() and changed.sum() == 6


def test_it_has_no_batch_statistics_and_finite_gradients_everywhere():
    coder, x = SpatialCoder((3, 4), activation="silu"), jax.random.normal(KEY, (2, 9, 6, 2))
    encoder, decoder = coder.encoder(5), coder.decoder((9, 6, 2))
    loss = lambda v: jnp.square(decoder.apply(v[1], encoder.apply(v[0], x)) - x).mean()  # noqa: E731

    @jax.jit
    def run():
        variables = encoder.init(KEY, x), decoder.init(KEY, jnp.zeros((1, 3, 2, 5)))
        return variables, jax.grad(loss)(variables)

    variables, gradients = run()
    assert all(set(v) == {"params"} for v in variables)
    for gradient in jax.tree.leaves(gradients):
        assert jnp.isfinite(gradient).all() and jnp.any(gradient != 0)


def test_bfloat16_stays():
    x = jnp.ones((2, 8, 8, 1), jnp.bfloat16)
    encoder = SpatialCoder((2, 4), 1).encoder(3)

    def run():
        params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), encoder.init(KEY, x))
        return encoder.apply(params, x, capture_intermediates=True)

    y, inside = jax.eval_shape(run)
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(inside)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel": 3}, "even"),
        ({"channels": ()}, "channels must be at least one, not empty"),
        ({"channels": (4, 0)}, "channels.1 must be at least 1"),
        ({"residual_blocks": -1}, "residual_blocks"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
    ],
)
def test_bad_values_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        SpatialCoder(**fields)


@pytest.mark.parametrize(
    ("shape", "message"), [((12,), "images"), ((1, 1, 3), "one pixel"), ((2, 2, 1), "one pixel")]
)
def test_shapes_refused(shape, message):
    with pytest.raises(UserError, match=message):
        SpatialCoder().decoder(shape)
    with pytest.raises(UserError, match=message):
        SpatialCoder().encoder(2).init(KEY, jnp.zeros((1, *shape)))
