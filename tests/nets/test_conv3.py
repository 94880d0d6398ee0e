"""Convolutions of three taps an axis: both forms are one map with one gradient, in one and in
two dimensions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.conv import conv3
from genjax.nets.conv.conv3 import Conv3


def _normal(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize(
    ("sizes", "inputs", "outputs"),
    [
        ((5, 4), 3, 2),
        ((5, 4), 2, 5),
        ((7,), 4, 3),
        ((1, 2), 2, 2),
        ((16, 3), 33, 32),
    ],  # the last with rows cut off
)
def test_forms_agree(sizes, inputs, outputs, up):
    x = _normal(0, (3, *sizes, inputs))
    params = {
        "kernel": _normal(1, (*(3,) * len(sizes), inputs, outputs)),
        "bias": _normal(2, (outputs,)),
    }

    @jax.jit
    def forms(x, params):
        def run(form):
            y, vjp = jax.vjp(
                lambda x, p: Conv3(outputs, up=up, form=form).apply({"params": p}, x), x, params
            )
            return y, vjp(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        return run("matmul"), run("lax")

    got, want = forms(x, params)
    assert got[0].shape == (3, *(size * (1 + up) for size in sizes), outputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)


def test_a_batch_in_many_blocks_has_the_same_gradient(monkeypatch):
    x, g = _normal(0, (6, 4, 3, 2)), _normal(1, (6, 4, 3, 5))
    weight = lambda x, g: jax.jit(lambda x, g: conv3._weight(x, g, 3, 1))(x, g)  # noqa: E731
    whole = weight(x, g)
    monkeypatch.setattr(conv3, "WINDOWS", 2 * 4 * 3 * 9 * 2)  # two images a block
    np.testing.assert_allclose(weight(x, g), whole, rtol=1e-4, atol=1e-5)


def test_up_sampling_doubles_before_it_convolves():
    x = jnp.zeros((1, 2, 3, 1)).at[0, 1, 2, 0].set(1.0)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)  # the identity
    want = np.zeros((4, 6))
    want[2:, 4:] = 1
    np.testing.assert_allclose(conv3.up_matmul(x, kernel)[0, :, :, 0], want)


def test_a_zero_convolution_gives_zeros():
    y, _ = Conv3(4, zero=True).init_with_output(jax.random.key(0), _normal(0, (2, 5, 3)))
    assert y.shape == (2, 5, 4) and not y.any()
