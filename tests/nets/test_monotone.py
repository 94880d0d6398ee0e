"""A learned schedule always rises, between two ends that are parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.monotone import MonotoneSchedule

KEY = jax.random.key(0)
NET = MonotoneSchedule(features=64)
T = jnp.linspace(0, 1, 1001)
GAMMA = jax.jit(lambda params, t: NET.apply({"params": params}, t))


def _params(seed=None, size=1.0):
    params = NET.init(KEY, T)["params"]
    if seed is None:
        return params
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [size * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    )


@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 1000.0])
def test_it_rises_for_every_parameter(size):
    for seed in range(5):
        params = {**_params(seed, size), "start": jnp.float32(-13.3), "gap": jnp.float32(18.3)}
        gamma = GAMMA(params, T)
        assert jnp.isfinite(gamma).all() and (jnp.diff(gamma) > 0).all()


def test_its_ends_are_its_fields_and_then_its_parameters():
    gamma = GAMMA(_params(), T)
    np.testing.assert_allclose(gamma[jnp.array([0, -1])], [-13.3, 5.0], atol=2e-6)
    assert gamma[0] == jnp.float32(-13.3)
    params = _params(3)
    ends = GAMMA(params, T)[jnp.array([0, -1])]
    assert ends[0] == params["start"]
    np.testing.assert_allclose(ends[1] - ends[0], np.log1p(np.exp(params["gap"])), rtol=1e-5)


def test_it_is_the_network_of_the_paper_between_them():
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), _params(1))
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731

    def network(t):
        line = (softplus(params["slope"]) + 1e-3) * t + params["offset"]
        inner = 1 / (1 + np.exp(-(line[:, None] * softplus(params["weight"]) + params["bias"])))
        return line + inner @ softplus(params["mix"]) / 64

    t = np.asarray(T, np.float64)
    low, high = network(np.zeros(1)), network(np.ones(1))
    share = 1e-3 * t + (1 - 1e-3) * (network(t) - low) / (high - low)
    np.testing.assert_allclose(
        GAMMA(_params(1), T), params["start"] + softplus(params["gap"]) * share, rtol=1e-5
    )


def test_gradients_reach_the_ends_and_each_end_alone():
    params = _params()
    at = jax.jit(lambda t: jax.grad(lambda p: NET.apply({"params": p}, t))(params))
    first, last, middle = at(jnp.float32(0)), at(jnp.float32(1)), at(jnp.float32(0.4))
    assert first["start"] == last["start"] == 1 and first["gap"] == 0
    np.testing.assert_allclose(last["gap"], 1, rtol=1e-5)
    shape = ("slope", "offset", "weight", "bias", "mix")
    assert all(jnp.abs(end[name]).max() < 1e-5 for end in (first, last) for name in shape)
    assert all(jnp.abs(middle[name]).max() > 1e-4 for name in ("slope", "weight", "mix"))


def test_its_slope_in_time_is_positive_and_its_shape_is_times():
    t = jnp.linspace(0, 1, 6).reshape(2, 3)
    gamma, slope = jax.jvp(lambda t: GAMMA(_params(2), t), (t,), (jnp.ones_like(t),))
    assert gamma.shape == slope.shape == (2, 3) and (slope > 0).all()
    assert GAMMA(_params(2), t[1, 2]) == gamma[1, 2]


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(UserError, match="first must be < last"):
        MonotoneSchedule(5.0, -5.0).init(KEY, T)
