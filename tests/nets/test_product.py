"""The forms of a CPU equal the plain ones, with their gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.machine.target import trace_for
from genjax.nets.transformer.feed_forward import exact_gelu
from genjax.nets.transformer.product import multiply_rows


@pytest.mark.parametrize("widths", [(24, 8), (8, 24), (8, 8)])
def test_both_forms_of_a_product_have_the_same_gradients(widths):
    keys = jax.random.split(jax.random.key(0), 3)
    rows = jax.random.normal(keys[0], (40, widths[0]))
    kernel = jax.random.normal(keys[1], widths)
    slope = jax.random.normal(keys[2], (40, widths[1]))
    numbers = ((1,), (0,)), ((), ())

    def run(platform):
        product = trace_for(platform, lambda a, b: multiply_rows(a, b, numbers))
        out, pull = jax.vjp(product, rows, kernel)
        return out, *pull(slope)

    for cpu, other in zip(run("cpu"), run("gpu"), strict=True):
        np.testing.assert_allclose(cpu, other, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-6), ("bfloat16", 0.03)])
def test_gelu_by_erf_equals_that_by_erfc_with_its_gradient(dtype, within):
    x = jnp.linspace(-12, 12, 4001).astype(dtype)
    by_erf, by_erfc = exact_gelu, lambda x: nn.gelu(x, approximate=False)
    np.testing.assert_allclose(
        by_erf(x).astype("float32"), by_erfc(x).astype("float32"), atol=within, rtol=within
    )
    ours, theirs = (jax.grad(lambda x, f=f: f(x).sum())(x) for f in (by_erf, by_erfc))
    assert ours.dtype == dtype
    np.testing.assert_allclose(
        ours.astype("float32"), theirs.astype("float32"), atol=within, rtol=within
    )
