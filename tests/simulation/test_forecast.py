"""Forecasts and their roll-outs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import gx
from genjax.data.dataset import Spec
from genjax.data.simulation.codec import TrajectoryCodec
from genjax.errors import UserError
from genjax.families.diffusion.forecast import GIVEN
from genjax.family import State, with_inputs

NET = gx.ResidualMLP(8, 1, 8)


def make(shape, given, **fields):
    """A forecast with random parameters, and its state."""
    family = gx.Forecast(
        net=fields.pop("net", NET),
        process=gx.Straight(),
        target="velocity",
        width=4,
        given=given,
        sampler=gx.Rollout(gx.Euler(2)),
        **fields,
    )
    entry = "signal" if len(shape) == 2 else "image"
    x = jax.random.normal(jax.random.PRNGKey(1), (1, *shape))
    spec = Spec(entry, shape, np.zeros(shape, np.float32))
    params, variables = family.init(jax.random.PRNGKey(0), {entry: x}, spec)
    params = jax.tree.map(lambda a: a + 0.1, params)  # the output starts at 0
    state = State(jnp.zeros((), jnp.int32), params, (), variables, None, jax.random.PRNGKey(2))
    return family, state, x


@pytest.mark.parametrize(
    ("shape", "given", "net"),
    [
        ((5, 2), 2, NET),  # three states at once
        ((8, 8, 6), 4, gx.UNet((8,), 1, ())),
    ],
)
def test_a_roll_out_feeds_its_forecasts_back(shape, given, net):
    family, state, x = make(shape, given, net=net, change=0.5)
    axis = 1 if len(shape) == 2 else 3
    first, change = family.split(x)
    np.testing.assert_allclose(
        jnp.concatenate([first, family.join(first, change)], axis), x, rtol=1e-5, atol=1e-6
    )
    new = shape[axis - 1] - given
    length, key = given + 3 * new, jax.random.PRNGKey(3)
    whole = family.roll_out(state, key, first, family.sampler, length)
    assert whole.shape[axis] == length
    step_keys = jax.random.split(key, 3)
    for i, step_key in enumerate(step_keys):
        seen = jax.lax.slice_in_dim(whole, i * new, i * new + given, axis=axis)
        following = family.forecast(state, step_key, seen, family.sampler)
        part = jax.lax.slice_in_dim(whole, given + i * new, given + (i + 1) * new, axis=axis)
        np.testing.assert_allclose(following, part, rtol=1e-4, atol=1e-5)


def test_samples_start_from_the_first_example_a_given_start_or_given_rows():
    family, state, x = make((2, 3), 1)
    draw = jax.jit(type(family).sample, static_argnums=(0, 3, 4))
    drawn = draw(family, state, jax.random.PRNGKey(0), 4, family.sampler)
    assert drawn.shape == (4, 2, 3)
    np.testing.assert_allclose(drawn[:, 0], np.repeat(x[:, 0], 4, 0))
    assert float(drawn[:, 1].std(0).min()) > 0  # an ensemble
    codec = TrajectoryCodec(("x", "y", "z"), 0.1, (1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    options = gx.Rollout(gx.Euler(2), length=5, start=(1.0, 4.0, 3.0)).encode(codec, {})
    drawn = draw(family, state, jax.random.PRNGKey(0), 4, options)
    assert drawn.shape == (4, 5, 3)
    np.testing.assert_allclose(drawn[:, 0], [[0.0, 1.0, 0.0]] * 4)
    rows = jax.random.normal(jax.random.PRNGKey(9), (4, 1, 3))
    drawn = draw(
        family, with_inputs(state, {GIVEN: rows}), jax.random.PRNGKey(0), 4, family.sampler
    )
    np.testing.assert_allclose(drawn[:, :1], rows)


def test_the_loss_does_not_count_what_is_given():
    family, state, x = make((3, 2), 2)
    batch = {"signal": x, "mask": jnp.ones(1)}
    loss = family.evaluate(state, batch, jax.random.PRNGKey(0))["loss"].value
    assert np.isfinite(loss) and family.split(x)[1].shape == (1, 1, 2)
    # Without a network, only changes count, and not the states that they start from.
    zero = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    shifted = {"signal": x + 7, "mask": jnp.ones(1)}
    losses = [
        family.evaluate(zero, b, jax.random.PRNGKey(0))["loss"].value for b in (batch, shifted)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_starts_of_the_wrong_width_and_other_bad_settings_are_refused():
    codec = TrajectoryCodec(("x", "y", "z"), 0.1, (1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    with pytest.raises(UserError) as caught:
        gx.Rollout(start=(1.0, 2.0)).encode(codec, {})
    assert caught.value.field == "sampler.start"
    family, state, _ = make((2, 3), 1)
    two = gx.Rollout(gx.Euler(2), start=(1.0,) * 6).encode(codec, {})
    with pytest.raises(UserError) as caught:
        family.sample(state, jax.random.PRNGKey(0), 2, two)
    assert caught.value.field == "sampler.start"
    for change, field in (
        ({"given": 0}, "given"),
        ({"change": 0.0}, "change"),
        ({"sampler": gx.Rollout(gx.Euler(2), clip=True)}, "sampler.clip"),
        ({"given": 4, "sampler": gx.Rollout(gx.Euler(2), length=4)}, "sampler.length"),
    ):
        with pytest.raises(UserError) as caught:
            dataclasses.replace(family, **change)
        assert caught.value.field == field
    for shape, given in (((2, 3), 2), ((8, 8, 4), 1)):
        with pytest.raises(UserError) as caught:
            make(shape, given, net=gx.UNet((8,), 1, ()))
        assert caught.value.field == "given"
