"""Batch normalisation against numpy and PyTorch, under masks; shapes and types of the backbones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.conv.norm import BatchNorm
from genjax.nets.conv.resnet import ResNet
from genjax.nets.mlp import MLPBackbone

KEY = jax.random.key(0)


def normed(x, mask=None, steps=1, **settings):
    """The output of a training step and the running statistics after ``steps`` of them."""
    norm = BatchNorm(**settings)
    made = norm.init(KEY, x, train=True)
    params = {"scale": jnp.linspace(0.5, 2, x.shape[-1]), "bias": jnp.linspace(-1, 1, x.shape[-1])}
    stats = made["batch_stats"]
    for _ in range(steps):
        y, changed = norm.apply(
            {"params": params, "batch_stats": stats}, x, mask, train=True, mutable=["batch_stats"]
        )
        stats = changed["batch_stats"]
    return y, stats, params


def test_batch_norm_and_its_running_statistics_equal_numpy():
    x = np.asarray(3 * jax.random.normal(KEY, (6, 4, 5, 3)) + 2)
    y, stats, params = normed(x, steps=2, momentum=0.7)
    flat = x.reshape(-1, 3).astype(np.float64)
    mean, var = flat.mean(0), flat.var(0)
    expected = (x - mean) / np.sqrt(var + 1e-5) * np.asarray(params["scale"]) + np.asarray(
        params["bias"]
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)
    kept = 0.7**2
    np.testing.assert_allclose(stats["mean"], (1 - kept) * mean, rtol=1e-4)
    np.testing.assert_allclose(stats["var"], kept + (1 - kept) * flat.var(0, ddof=1), rtol=1e-4)


def test_batch_norm_is_pytorchs():
    torch = pytest.importorskip("torch", reason="compares with PyTorch's BatchNorm2d")
    x = np.asarray(3 * jax.random.normal(KEY, (6, 4, 5, 3)) + 2)
    y, stats, params = normed(x, steps=3)
    peer = torch.nn.BatchNorm2d(3, momentum=0.1)
    peer.load_state_dict(
        {
            k: torch.tensor(np.asarray(params[p]))
            for k, p in (("weight", "scale"), ("bias", "bias"))
        },
        strict=False,
    )
    for _ in range(3):
        want = peer(torch.tensor(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(y, want.detach().numpy().transpose(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(stats["mean"], peer.running_mean, rtol=1e-4)
    np.testing.assert_allclose(stats["var"], peer.running_var, rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 3), (8, 4, 5, 3)])
def test_masked_rows_do_not_count(shape):
    x = jax.random.normal(KEY, shape)
    mask = jnp.array([1, 1, 0, 1, 0, 1, 1, 0.0])
    real = np.flatnonzero(mask)
    y, stats, _ = normed(x.at[2].set(1e3), mask)
    want, want_stats, _ = normed(x[real])
    np.testing.assert_allclose(y[real], want, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), stats, want_stats)


def test_uneven_masks_over_devices_have_the_statistics_of_the_whole():
    x = jax.random.normal(KEY, (8, 4, 4, 3))
    mask = jnp.array([1, 1, 1, 0, 0, 0, 1, 0.0])  # the third of four devices has no row at all
    y, stats, params = normed(x, mask)
    per_device = lambda v: v.reshape(4, 2, *v.shape[1:])  # noqa: E731
    variables = {"params": params, "batch_stats": {"mean": jnp.zeros(3), "var": jnp.ones(3)}}
    apply = lambda x, m: BatchNorm("i").apply(variables, x, m, train=True, mutable=["batch_stats"])  # noqa: E731
    mapped, changed = jax.vmap(apply, axis_name="i")(per_device(x), per_device(mask))
    np.testing.assert_allclose(mapped.reshape(x.shape), y, atol=1e-5)
    for name, values in changed["batch_stats"].items():
        np.testing.assert_allclose(values, np.broadcast_to(stats[name], values.shape), rtol=1e-5)


def test_a_batch_without_rows_stays_finite():
    y, stats, _ = normed(jnp.ones((2, 3)), jnp.zeros(2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, stats)))


def test_statistics_stay_float32_in_bfloat16():
    x = (jax.random.normal(KEY, (64, 8, 8, 2)) + 8).astype(jnp.bfloat16)
    y, stats, _ = normed(x)
    assert y.dtype == jnp.bfloat16 and {s.dtype for s in jax.tree.leaves(stats)} == {
        jnp.dtype("float32")
    }
    np.testing.assert_allclose(
        stats["var"], 0.9 + 0.1 * np.asarray(x, np.float64).var((0, 1, 2)), rtol=1e-3
    )


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 14, 3)])
def test_a_residual_network_takes_any_image(norm, shape):
    net = ResNet((4, 8, 16), (1, 0, 2), norm=norm, groups=4, stem=12).backbone()
    x = jax.random.normal(KEY, (3, *shape))
    y, made = jax.eval_shape(lambda: net.init_with_output(KEY, x, train=False))
    assert y.shape == (3, 16)
    assert ("batch_stats" in made) == (norm == "batch")
    assert ("bias" in made["params"]["conv_0_0a"]) == (norm == "none")
    assert made["params"]["stem"]["kernel"].shape == (3, 3, shape[-1], 12)
    assert "conv_1_0a" not in made["params"] and "conv_2_1b" in made["params"]


def test_a_block_adds_to_its_input():
    """With its second normalisation at zero a block is the identity, as all that comes in is
    not negative.
    """
    x = jax.random.normal(KEY, (2, 8, 8, 1))
    with_block, without = ResNet((4,), (1,)).backbone(), ResNet((4,), (0,)).backbone()
    made = with_block.init(KEY, x, train=False)
    made["params"]["norm_0_0b"]["batch"]["scale"] *= 0
    plain = without.apply(made, x, train=False)
    np.testing.assert_allclose(with_block.apply(made, x, train=False), plain, rtol=1e-6)
    made["params"]["norm_0_0b"]["batch"]["bias"] += 1
    np.testing.assert_allclose(with_block.apply(made, x, train=False), plain + 1, rtol=1e-6)


def test_a_grid_is_what_is_pooled_of_the_same_parameters():
    net, x = (
        ResNet((4, 8), (1, 1), norm="group", groups=4, stem=4),
        jax.random.normal(KEY, (2, 9, 14, 3)),
    )
    made = net.backbone().init(KEY, x, train=False)
    grid = net.grid().apply(made, x, train=False)
    assert grid.shape == (2, 3, 4, 8)
    np.testing.assert_allclose(
        grid.mean((1, 2)), net.backbone().apply(made, x, train=False), rtol=1e-5
    )


def test_gradients_reach_every_parameter_in_bfloat16_too():
    net, x = ResNet((4, 8), (1, 1), "gelu").backbone(), jax.random.normal(KEY, (4, 8, 8, 1))
    made = net.init(KEY, x, train=False)

    @jax.jit
    def gradients(params, x):
        def loss(params):
            y, _ = net.apply({**made, "params": params}, x, train=True, mutable=["batch_stats"])
            return jnp.square(y.astype(jnp.float32)).sum()

        return jax.grad(loss)(params)

    for dtype in (jnp.float32, jnp.bfloat16):
        cast = jax.tree.map(lambda p, dtype=dtype: p.astype(dtype), made["params"])
        grads = gradients(cast, x.astype(dtype))
        (
            grads["down_0"].pop("bias"),
            grads["down_1"].pop("bias"),
        )  # the normalisation takes their mean away
        for g in jax.tree.leaves(grads):
            assert g.dtype == dtype and jnp.isfinite(g).all() and jnp.any(g != 0)


def test_a_perceptron_takes_any_shape_and_drops_in_training_alone():
    x = jax.random.normal(KEY, (5, 4, 3, 2))
    net = MLPBackbone((7, 6), dropout=0.5).backbone()
    params = net.init(KEY, x, train=False)
    assert net.apply(params, x, train=False).shape == (5, 6)
    kept = net.apply(params, x, train=True, rngs={"dropout": KEY})
    assert jnp.any(kept != net.apply(params, x, train=False))
    flat = MLPBackbone(()).backbone()
    np.testing.assert_array_equal(flat.apply({}, x, train=True), x.reshape(5, -1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(()), "channels must be at least one, not empty"),
        (lambda: ResNet((4, 0), (1, 1)), "channels.1 must be at least 1"),
        (lambda: ResNet((4, 8)), r"blocks must have a number for each of channels, \(4, 8\)"),
        (lambda: ResNet((4,), (-1,)), "blocks"),
        (lambda: ResNet(norm="bach"), "norm must be one of 'batch', 'group', 'none'"),
        (lambda: ResNet((4, 6), (1, 1), norm="group", groups=4), "groups must divide all channels"),
        (
            lambda: ResNet((4, 8), (1, 1), norm="group", groups=4, stem=2),
            "groups must divide all channels",
        ),
        (lambda: ResNet(stem=-1), "stem"),
        (lambda: ResNet(activation="rel"), "relu"),
        (lambda: ResNet().grid(), "keeps no batch statistics"),
        (lambda: MLPBackbone((0,)), "hidden"),
        (lambda: MLPBackbone(dropout=1.0), "dropout"),
        (lambda: MLPBackbone(activation="rel"), "relu"),
        (lambda: ResNet().backbone().init(KEY, jnp.zeros((1, 5)), train=False), "needs images"),
        (lambda: ResNet().backbone().init(KEY, jnp.zeros((1, 2, 2, 1)), train=False), "one pixel"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
