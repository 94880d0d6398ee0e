from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.machine.target import trace_for
from genjax.nets.conv import conv

SHAPES = [(28, 28, 1), (17, 30, 3), (8, 8, 1), (9, 5, 2)]


def _normal(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("module", [conv.DownConv, conv.UpConv])
@pytest.mark.parametrize(
    ("batch", "h", "w", "kernel"), [(64, 7, 8, 4), (37, 1, 3, 4), (2, 6, 5, 6)]
)
def test_forms_agree(module, batch, h, w, kernel):
    x, weight, bias = (
        _normal(0, (batch, h, w, 2)),
        _normal(1, (kernel, kernel, 2, 3)),
        _normal(2, (3,)),
    )

    @jax.jit
    def forms(x, params):
        def run(form):
            y, vjp = jax.vjp(
                lambda x, p: module(3, kernel, form).apply({"params": p}, x), x, params
            )
            return y, vjp(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

        return run("matmul"), run("lax")

    got, want = forms(x, {"kernel": weight, "bias": bias})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), got, want)


def test_target_platform_chooses_form():
    for platform, form in {"cpu": "matmul", "gpu": "lax", "tpu": "lax"}.items():
        assert trace_for(platform, conv.resolve_form)("auto") == form
    assert conv.resolve_form("lax") == "lax"


def test_second_derivative_agrees():
    x, kernel = _normal(0, (2, 5, 6, 2)), _normal(1, (4, 4, 2, 3))

    def penalty(op):
        return jax.grad(lambda k: (jax.grad(lambda x: jnp.sum(op(x, k) ** 2))(x) ** 2).sum())(
            kernel
        )

    np.testing.assert_allclose(
        penalty(conv.down_matmul), penalty(conv.down_lax), rtol=1e-4, atol=1e-2
    )
    np.testing.assert_allclose(penalty(conv.up_matmul), penalty(conv.up_lax), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("op", [conv.up_matmul, conv.up_lax])
def test_up_is_torch_conv_transpose(op):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's ConvTranspose2d")
    x, kernel = np.array(_normal(0, (2, 5, 3, 4))), np.array(_normal(1, (4, 4, 4, 2)))
    weight = torch.tensor(
        kernel[::-1, ::-1].transpose(2, 3, 0, 1).copy()
    )  # [in, out, 4, 4], flipped
    want = torch.nn.functional.conv_transpose2d(
        torch.tensor(x.transpose(0, 3, 1, 2).copy()), weight, None, 2, 1
    )
    np.testing.assert_allclose(
        op(x, kernel), want.numpy().transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_coder_keeps_any_resolution(shape):
    coder = conv.ConvCoder((3, 4), dense=6)
    encoder, decoder = coder.encoder(5), coder.decoder(shape, outputs_per_dim=2)

    def run(key, x):
        z, _ = encoder.init_with_output(key, x)
        return z, decoder.init_with_output(key, z)[0]

    z, y = jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, *shape)))
    assert (z.shape, y.shape) == ((2, 5), (2, *shape[:2], 2 * shape[2]))


def test_gradients_are_finite():
    coder, x = conv.ConvCoder((3, 4)), _normal(0, (2, 9, 5, 2))
    encoder, decoder = coder.encoder(5), coder.decoder((9, 5, 2))

    @jax.jit
    def gradients(key):
        params = encoder.init(key, x), decoder.init(key, jnp.zeros((2, 5)))
        return jax.grad(lambda p: jnp.mean((decoder.apply(p[1], encoder.apply(p[0], x)) - x) ** 2))(
            params
        )

    for g in jax.tree.leaves(gradients(jax.random.key(1))):
        assert jnp.isfinite(g).all() and jnp.any(g != 0)


def test_bfloat16_stays():
    x = jnp.ones((2, 8, 8, 1), jnp.bfloat16)
    encoder = conv.ConvCoder((2, 3)).encoder(4)
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), encoder.init(jax.random.key(0), x))
    y, inside = encoder.apply(params, x, capture_intermediates=True)
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(inside)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("shape", "message"), [((12,), "images"), ((1, 1, 3), "one pixel"), ((2, 2, 1), "one pixel")]
)
def test_shapes_refused(shape, message):
    with pytest.raises(UserError, match=message):
        conv.ConvCoder().decoder(shape)
    with pytest.raises(UserError, match=message):
        conv.ConvCoder().encoder(2).init(jax.random.key(0), jnp.zeros((1, *shape)))


def test_odd_kernel_refused():
    with pytest.raises(UserError, match="even"):
        conv.ConvCoder(kernel=3)
