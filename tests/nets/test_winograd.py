"""Winograd's convolution is the direct one, and so is its gradient for the kernel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.machine.target import trace_for
from genjax.nets.conv import conv3, winograd
from genjax.nets.conv.conv3 import Conv3, conv_lax


def _draw(*shape):
    return jax.random.normal(jax.random.key(len(shape) + shape[-1]), shape)


def _differ(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize("size", [(4, 6), (5, 8), (7, 3), (1, 1), (2, 2)])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (5, 3)])
def test_it_is_the_direct_convolution(size, inputs, outputs):
    x, kernel = _draw(6, *size, inputs), _draw(3, 3, inputs, outputs)
    want, vjp = jax.vjp(lambda kernel: conv_lax(x, kernel, 1), kernel)
    g = _draw(*want.shape)
    for block in (1, 2, 6):
        got = jax.jit(winograd.convolve, static_argnums=2)(x, kernel, block)
        assert got.shape == want.shape and _differ(got, want) < 1e-6
        gradient = jax.jit(winograd.differentiate_kernel, static_argnums=2)(x, g, block)
        assert gradient.shape == kernel.shape and _differ(gradient, vjp(g)[0]) < 1e-6


def test_multiplying_by_one_tap_shifts_exactly():
    """Transforms of 1 and 0 are exact, so that only the tap's shift is left."""
    x = jnp.arange(36.0).reshape(1, 6, 6, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[0, 2].set(4.0)
    want = np.zeros((6, 6))
    want[1:, :-1] = 4 * x[0, :-1, 1:, 0]
    np.testing.assert_array_equal(winograd.convolve(x, kernel, 1)[0, :, :, 0], want)


@pytest.mark.parametrize("cores", [1, 2, 64])
@pytest.mark.parametrize(
    "shape", [(6, 32, 32, 64), (1, 9, 9, 500), (7, 28, 28, 32), (16, 16, 16, 128)]
)
def test_blocks_divide_the_batch(cores, shape):
    for features in (1, 32, 64, 256):
        for choose in (winograd.choose_output_block, winograd.choose_kernel_block):
            block = choose(shape, features, cores)
            assert block == 0 or shape[0] % block == 0
            assert features > 1 or block == 0


def test_more_cores_take_it_for_wider_layers_and_larger_batches():
    output, kernel = winograd.choose_output_block, winograd.choose_kernel_block
    assert output((16, 16, 16, 128), 128, 2) == kernel((16, 16, 16, 128), 128, 2) == 16
    assert output((16, 32, 32, 64), 64, 1) == 1 and output((16, 32, 32, 64), 64, 2) == 0
    assert kernel((16, 32, 32, 64), 64, 1) == 0 and kernel((16, 32, 32, 64), 64, 2) == 8
    assert output((1, 8, 8, 128), 128, 2) == 0 < output((1, 8, 8, 128), 128, 1)


def test_a_layer_takes_it_where_it_is_faster(monkeypatch):
    """On one core it does, but not where the compiler splits rows, nor in bfloat16."""
    monkeypatch.setattr(conv3, "count_cores", lambda: 1)
    taken = []
    for name in ("convolve", "differentiate_kernel"):
        whole = getattr(winograd, name)
        monkeypatch.setattr(
            winograd, name, lambda *args, n=name, f=whole: (taken.append(n), f(*args))[1]
        )
    layer = Conv3(128, form="matmul")
    x = _draw(2, 8, 8, 64)
    params = layer.init(jax.random.key(0), x)
    loss = lambda params, x: jnp.sum(jnp.sin(layer.apply(params, x).astype(jnp.float32)))  # noqa: E731
    grad = jax.grad(loss, argnums=(0, 1))
    taken.clear()
    got = jax.jit(lambda *args: grad(*args))(params, x)
    assert sorted(taken) == ["convolve", "convolve", "differentiate_kernel"]
    taken.clear()
    want = jax.jit(trace_for("cpu", lambda *args: grad(*args), split=lambda function: function))(
        params, x
    )
    low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (params, x))
    jax.eval_shape(lambda *args: grad(*args), *low)
    assert taken == []
    assert max(map(_differ, *map(jax.tree.leaves, (got, want)))) < 1e-6
