"""Both forms of attention are JAX's own, with its gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.conv import attention as module
from genjax.nets.conv.attention import SelfAttention, attention

KEY = jax.random.key(0)


@pytest.mark.parametrize("scores", [1, 2**17])  # one head a block, and all at once
@pytest.mark.parametrize("keys", [7, 4])
def test_forms_agree(monkeypatch, scores, keys):
    monkeypatch.setattr(module, "SCORES", scores)
    shapes = [(2, 7, 3, 4), (2, keys, 3, 4), (2, keys, 3, 4)]
    inputs = [3 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]

    @jax.jit
    def forms(*inputs):
        def run(f):
            y, vjp = jax.vjp(f, *inputs)
            return y, vjp(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        own = lambda q, k, v: attention(q, k, v, "lax")  # noqa: E731
        return (
            run(lambda q, k, v: attention(q, k, v, "matmul")),
            run(own),
            run(jax.nn.dot_product_attention),
        )

    fast, own, want = forms(*inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), fast, want)
    jax.tree.map(np.testing.assert_array_equal, own, want)


def test_large_scores_stay_finite():
    x = jnp.array([[[[100.0]], [[-100.0]]]])  # scores of +-10,000
    value, grad = jax.value_and_grad(lambda x: attention(x, x, x, "matmul").sum())(x)
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()
    np.testing.assert_allclose(value, 0, atol=1e-5)


def test_bfloat16_stays():
    x = jax.random.normal(KEY, (2, 5, 2, 4), jnp.bfloat16)
    assert attention(x, x, x, "matmul").dtype == jnp.bfloat16


def test_order_of_tokens_does_not_matter_to_self_attention():
    x = jax.random.normal(KEY, (2, 5, 8))
    net = SelfAttention(2)
    params = jax.jit(net.init)(KEY, x)
    run = jax.jit(net.apply)
    y = run(params, x)
    np.testing.assert_allclose(run(params, x[:, ::-1]), y[:, ::-1], atol=1e-5)
    assert jnp.abs(run(params, x.at[:, 0].add(1.0)) - y)[:, 1:].max() > 1e-3


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_are_refused(heads):
    with pytest.raises(UserError, match="heads must be a divisor of 8"):
        SelfAttention(heads).init(KEY, jnp.zeros((1, 2, 8)))
