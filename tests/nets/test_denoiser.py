"""The vector that a denoiser is told: what is null, what matters, what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.denoiser import Denoiser, time_features
from genjax.nets.residual_mlp import ResidualMLP

KEY = jax.random.key(0)
X, T = jax.random.normal(KEY, (4, 2)), jnp.array([0.0, 0.3, 0.30001, 1.0])


def _net(**settings):
    net = Denoiser(ResidualMLP(8, 1, 16).denoiser((2,)), 16, **settings)
    params = jax.jit(lambda: net.init(KEY, X, T, train=False))()["params"]
    params["net"]["output"]["kernel"] += 1.0
    return lambda **given: np.asarray(
        net.apply({"params": params}, X, given.pop("t", T), **given, train=False)
    )


def test_time_features_are_ddpms_at_its_steps():
    steps = np.array([0, 1, 500, 1000])
    got = time_features(jnp.asarray(steps / 1000), 8)
    angles = steps[:, None] * 10_000.0 ** (-np.arange(4) / 4)
    np.testing.assert_allclose(got, np.concatenate([np.sin(angles), np.cos(angles)], -1), atol=2e-4)


def test_time_features_turn_no_faster_than_their_highest_frequency():
    t = jnp.linspace(0, 1, 1001)
    rate = np.abs(np.diff(np.asarray(time_features(t, 8, 2.0)), axis=0)).max(0) * 1000
    np.testing.assert_allclose(
        rate[:4], [2.0, 2 * 20**-0.25, 2 * 20**-0.5, 2 * 20**-0.75], rtol=1e-3
    )  # of the sines
    assert rate.max() <= 2.0 + 1e-3


def test_time_matters():
    run = _net()
    assert (np.abs(run() - run(t=1 - T)) > 1e-4).all(1)[0]


def test_the_last_label_is_null_and_null_is_the_default():
    run = _net(classes=3)
    np.testing.assert_array_equal(run(label=jnp.full(4, 3)), run())
    mixed = run(label=jnp.array([0, 3, 1, 3]))
    changed = (mixed != run()).any(1)
    assert changed.tolist() == [True, False, True, False]


def test_text_of_zeros_is_null():
    run = _net(text=5)
    text = jax.random.normal(KEY, (4, 5)).at[1].set(0.0)
    np.testing.assert_array_equal(run(text=jnp.zeros((4, 5))), run())
    assert (run(text=text) != run()).any(1).tolist() == [True, False, True, True]


def test_augmentation_of_zeros_is_none():
    run = _net(augment=3)
    np.testing.assert_array_equal(run(augment=jnp.zeros((4, 3))), run())
    assert (run(augment=jnp.ones((4, 3))) != run()).any()


def test_what_it_is_told_in_float32_does_not_raise_its_precision():
    net = Denoiser(ResidualMLP(8, 1, 16).denoiser((2,)), 16, 3, 5, 3)
    given = {"label": jnp.zeros(4, int), "text": jnp.ones((4, 5)), "augment": jnp.ones((4, 3))}
    params = jax.eval_shape(lambda: net.init(KEY, X, T, **given, train=False))["params"]
    half = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.bfloat16), params)
    run = jax.eval_shape(
        lambda p: net.apply({"params": p}, X.astype(jnp.bfloat16), T, **given, train=False), half
    )
    assert run.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({}, {"label": jnp.zeros(4, int)}, "without classes"),
        ({}, {"text": jnp.zeros((4, 5))}, "without text"),
        ({}, {"augment": jnp.zeros((4, 5))}, "without augment"),
        ({"text": 3}, {"text": jnp.zeros((4, 5))}, "3 numbers"),
    ],
)
def test_what_it_was_not_built_for_is_refused(settings, given, message):
    with pytest.raises(UserError, match=message):
        _net(**settings)(**given)


def test_an_odd_width_is_refused():
    with pytest.raises(UserError, match="even"):
        Denoiser(ResidualMLP().denoiser((2,)), 7).init(KEY, X, T, train=False)


def test_a_residual_perceptron_is_its_formula():
    net = ResidualMLP(6, 2, 10).denoiser((2, 3))
    x, vector = jax.random.normal(KEY, (4, 2, 3)), jax.random.normal(jax.random.key(1), (4, 5))
    y, variables = net.init_with_output(KEY, x, vector, train=False)
    assert y.shape == x.shape and not y.any()
    p = jax.tree.map(lambda a: a + 0.1, variables["params"])
    dense = lambda name, x: x @ p[name]["kernel"] + p[name].get("bias", jnp.zeros(1))[None]  # noqa: E731
    h = dense("stem", x.reshape(4, 6))
    for i in range(2):
        h += dense(
            f"output_{i}", jax.nn.gelu(dense(f"hidden_{i}", h) + dense(f"vector_{i}", vector))
        )
    want = dense("output", h).reshape(x.shape)
    np.testing.assert_allclose(
        net.apply({"params": p}, x, vector, train=True), want, rtol=1e-4, atol=1e-5
    )


def test_a_perceptron_without_blocks_is_refused():
    with pytest.raises(UserError, match="blocks must be at least 1"):
        ResidualMLP(blocks=0)
