"""Group normalisation against Flax's, and its modulation by hand."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.conv.group_norm import EPSILON, GroupNorm, choose_groups

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(3, 5, 4, 12), (2, 7, 64)])
def test_it_is_flax_group_norm_with_its_gradients(shape):
    x = jax.random.normal(KEY, shape) * 2 + 1
    channels = shape[-1]
    params = {"scale": jnp.linspace(0.5, 2, channels), "bias": jnp.linspace(-1, 1, channels)}
    peer = nn.GroupNorm(choose_groups(channels), epsilon=EPSILON)

    @jax.jit
    def both(params, x):
        def run(net):
            y, vjp = jax.vjp(lambda p, x: net.apply({"params": p}, x), params, x)
            return y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        return run(GroupNorm(silu=False)), run(peer)

    got, want = both(params, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got[1], want[1]
    )
    np.testing.assert_allclose(got[0], want[0], atol=1e-5)


def test_scale_and_shift_follow_the_normalisation_and_silu_them():
    x = np.asarray(jax.random.normal(KEY, (2, 3, 3, 8)), np.float64)
    scale, shift = (np.asarray(jax.random.normal(jax.random.key(i), (2, 8))) for i in (1, 2))
    y, _ = jax.jit(GroupNorm().init_with_output)(
        KEY, jnp.asarray(x, jnp.float32), jnp.asarray(scale), jnp.asarray(shift)
    )
    grouped = x.reshape(2, 9, 4, 2)
    mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    z = ((grouped - mean) / np.sqrt(var + EPSILON)).reshape(x.shape)
    z = z * (1 + scale[:, None, None]) + shift[:, None, None]
    np.testing.assert_allclose(y, z / (1 + np.exp(-z)), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (128, 32), (192, 32), (8, 4), (6, 1), (1, 1)]
)
def test_groups_divide_the_channels_and_have_two_or_more(channels, groups):
    assert choose_groups(channels) == groups and channels % groups == 0
