"""The U-Net: any size, an output that begins at 0, blocks that obey the vector; the
benchmark's size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.nets.conv.unet import Halve, ResidualBlock, UNet

KEY = jax.random.key(0)


def _small():
    """A net, its inputs, and parameters none of which is 0, made without compiling its `init`."""
    net = UNet((4, 8), blocks=1, attention=(4,), head_dim=4, dropout=0.5).denoiser((7, 5, 2))
    rng = np.random.default_rng(0)
    x, vector = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 7, 5, 2), (2, 5)))
    shapes = jax.eval_shape(lambda: net.init(KEY, x, vector, train=False))["params"]
    return (
        net,
        x,
        vector,
        jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) * 0.4, p.dtype), shapes),
    )


@pytest.mark.parametrize("shape", [(7, 7, 1), (28, 28, 1), (6, 11, 3), (13, 2), (9, 1, 2)])
def test_it_keeps_any_shape(shape):
    net = UNet((4, 6, 8), blocks=1, attention=(), head_dim=4).denoiser(shape)
    x, vector = jnp.zeros((2, *shape)), jnp.zeros((2, 5))
    y, params = jax.eval_shape(lambda: net.init_with_output(KEY, x, vector, train=False))
    assert y.shape == x.shape
    kernels = params["params"]
    assert kernels["stem"]["kernel"].shape == (*(3,) * (len(shape) - 1), shape[-1], 4)


def test_it_begins_at_zero_and_then_sees_its_vector():
    net, x, vector, params = _small()
    assert (
        "attention_down_1_0" in params
        and "attention_down_0_0" not in params
        and "attention_middle" in params
    )
    run = jax.jit(lambda params, vector: net.apply({"params": params}, x, vector, train=False))
    begun = jax.jit(lambda: net.init(KEY, x, vector, train=False)["params"]["output"])()
    assert not run({**params, "output": begun}, vector).any()
    y, other = run(params, vector), run(params, vector.at[1].add(1.0))
    np.testing.assert_allclose(other[0], y[0], atol=1e-4)  # no row depends on another
    assert jnp.abs(other[1] - y[1]).max() > 1e-2


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
def test_it_drops_in_training_and_gradients_reach_every_parameter():
    net, x, vector, params = _small()

    @jax.jit
    def training(params, key):
        def loss(p):
            return jnp.square(
                net.apply({"params": p}, x, vector, train=True, rngs={"dropout": key})
            ).mean()

        return jax.value_and_grad(loss)(params)

    first, grads = training(params, jax.random.key(1))
    assert first != training(params, jax.random.key(2))[0]
    assert all(jnp.isfinite(g).all() and jnp.any(g != 0) for g in jax.tree.leaves(grads))


def test_a_block_is_its_input_at_first():
    x, vector = jax.random.normal(KEY, (2, 4, 4, 6)), jax.random.normal(KEY, (2, 3))
    y, _ = jax.jit(lambda: ResidualBlock(6).init_with_output(KEY, x, vector, train=False))()
    np.testing.assert_array_equal(y, x)


def test_halving_is_a_linear_map_of_each_block():
    x = jax.random.normal(KEY, (2, 5, 4, 3))
    y, variables = Halve(6).init_with_output(KEY, x)
    dense = variables["params"]["linear"]["dense"]
    assert y.shape == (2, 3, 2, 6) and dense["kernel"].shape == (12, 6)
    block = x[1, 2:4, 2:4].reshape(-1)
    np.testing.assert_allclose(
        y[1, 1, 1], block @ dense["kernel"] + dense["bias"], rtol=1e-4, atol=1e-5
    )
    edge = jnp.concatenate([x[0, 4, :2], jnp.zeros((2, 3))]).reshape(-1)  # zeros past an odd edge
    np.testing.assert_allclose(
        y[0, 2, 0], edge @ dense["kernel"] + dense["bias"], rtol=1e-4, atol=1e-5
    )


def test_the_benchmark_compares_networks_of_one_size():
    pytest.importorskip("diffusers", reason="the peer is diffusers' UNet2DModel")
    from benchmarks import unet

    spec = Spec("image", unet.SHAPE, np.zeros(unet.SHAPE, np.float32))
    example = {"image": jnp.zeros((1, *unet.SHAPE))}
    params, _ = jax.eval_shape(lambda: unet.genjax_family().init(KEY, example, spec))
    ours = sum(p.size for p in jax.tree.leaves(params))
    theirs = sum(p.numel() for p in unet.torch_net().parameters())
    assert 6.3e6 < theirs < 6.7e6 and abs(ours / theirs - 1) < 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNet(()), "channels must be at least one, not empty"),
        (lambda: UNet((4, 0)), "channels.1 must be at least 1"),
        (lambda: UNet(blocks=0), "at least 1"),
        (lambda: UNet(head_dim=0), "at least 1"),
        (lambda: UNet(dropout=1.0), "dropout"),
        (lambda: UNet((4, 6), head_dim=4), "head_dim"),
        (lambda: UNet((6, 8), attention=(8,), head_dim=4).denoiser((8, 8, 1)), "head_dim"),
        (lambda: UNet().denoiser((28, 28, 1)), r"\[28, 14, 7\], got 16"),
        (lambda: UNet((8, 8, 8), attention=()).denoiser((2, 2, 1)), "channels must have at most 2"),
        (lambda: UNet().denoiser((5,)), "images"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
