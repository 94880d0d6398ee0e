"""A model of the next state: its loss is that of the frames to come, and its continuations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import gx
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.continuing import GIVEN
from genjax.family import State, with_inputs

NET = gx.SpaceTime(4, 8, 1, heads=2, ratio=1)
KEY = jax.random.PRNGKey(0)


def make(shape=(4, 4, 5), **fields):
    family = gx.NextState(**{"net": NET, "given": 2, "first": 1, **fields})
    x = jax.random.uniform(jax.random.PRNGKey(1), (3, *shape), minval=-1)
    spec = Spec("image", shape, np.zeros(shape, np.float32), levels=256)
    params, variables = family.init(KEY, {"image": x}, spec)
    params = jax.tree.map(lambda p: p + 0.2 * jax.random.normal(KEY, p.shape), params)
    return family, State(jnp.zeros((), jnp.int32), params, (), variables, None, KEY), x


def test_the_loss_is_the_cross_entropy_of_the_frames_to_come():
    family, state, x = make()
    batch = {"image": x, "mask": jnp.array([1.0, 1.0, 0.0])}
    logits = np.asarray(family.predict(state.params, x), np.float64)
    p, target = 1 / (1 + np.exp(-logits)), (np.asarray(x, np.float64) + 1) / 2
    nll = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum((1, 2))  # [B, T]
    np.testing.assert_allclose(family.nll(state.params, x), nll, rtol=1e-4)
    loss = family.evaluate(state, batch, KEY)["loss"].value
    np.testing.assert_allclose(loss, nll[:2, 2:].mean(), rtol=1e-4)


def test_the_floor_is_reached_by_the_targets_themselves_and_by_nothing_below():
    family, _, x = make()
    p = jnp.clip((x + 1) / 2, 1e-6, 1 - 1e-6)
    floor = family.measure_floor(x)
    best = family.likelihood.nll({}, jnp.log(p) - jnp.log1p(-p), x)
    np.testing.assert_allclose(floor.sum(1), best, rtol=1e-4)
    assert float(family.likelihood.nll({}, jnp.log(p) - jnp.log1p(-p) + 0.1, x).min()) > 0
    assert not family.measure_floor(jnp.sign(x)).any()
    np.testing.assert_allclose(family.measure_floor(0 * x), 16 * np.log(2), rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_roll_out_feeds_its_means_back(channels):
    family, state, x = make((4, 4, 4 * channels), net=dataclasses.replace(NET, channels=channels))
    given = family.select_given(x)
    whole = family.roll_out(state, KEY, given, family.sampler, 6 * channels)  # longer than seen
    assert whole.shape == (3, 4, 4, 6 * channels)
    np.testing.assert_array_equal(whole[..., : 2 * channels], given)
    for t in (2, 3):
        means = jnp.tanh(family.predict(state.params, whole[..., : 4 * channels]) / 2)
        part = slice(t * channels, (t + 1) * channels)
        np.testing.assert_allclose(whole[..., part], means[..., part], atol=1e-5)
    # The fifth and sixth see the four before them, as in training.
    means = jnp.tanh(family.predict(state.params, whole[..., channels : 5 * channels]) / 2)
    np.testing.assert_allclose(
        whole[..., 4 * channels : 5 * channels], means[..., 3 * channels :], atol=1e-5
    )
    short = family.roll_out(state, KEY, given, family.sampler, 3 * channels)
    np.testing.assert_allclose(short, whole[..., : 3 * channels], atol=1e-6)


def test_samples_continue_the_first_example_or_what_is_given():
    family, state, x = make()
    drawn = family.sample(state, KEY, 2, family.sampler)
    np.testing.assert_array_equal(drawn[..., :2], jnp.broadcast_to(x[:1, ..., :2], (2, 4, 4, 2)))
    given = with_inputs(state, {GIVEN: x[1:, ..., :2]})
    options = gx.Continuation(draw=True)
    drawn = family.sample(given, KEY, 2, options)
    np.testing.assert_array_equal(drawn[..., :2], x[1:, ..., :2])
    assert set(np.unique(drawn[..., 2:])) == {-1.0, 1.0}


def test_settings_that_leave_nothing_to_predict_are_refused():
    for fields, field in (({"given": 5}, "given"), ({"first": 7}, "first")):
        with pytest.raises(UserError) as caught:
            make(**fields)
        assert caught.value.field == field
    family, state, _ = make()
    with pytest.raises(UserError) as caught:
        family.sample(state, KEY, 1, gx.Continuation(length=2))
    assert caught.value.field == "sampler.length"


def test_a_forecast_without_change_models_the_states_themselves():
    family = gx.Forecast(
        net=NET,
        process=gx.Straight(),
        target="velocity",
        width=8,
        given=3,
        change=None,
        sampler=gx.Rollout(gx.Euler(2)),
    )
    x = jax.random.normal(KEY, (2, 4, 4, 5))
    given, following = family.split(x)
    np.testing.assert_array_equal(given, x[..., :3])
    np.testing.assert_array_equal(following, x[..., 3:])
    np.testing.assert_array_equal(family.join(given, following), following)
    spec = Spec("image", (4, 4, 5), np.zeros((4, 4, 5), np.float32))
    params, variables = family.init(KEY, {"image": x}, spec)
    state = State(jnp.zeros((), jnp.int32), params, (), variables, None, KEY)
    drawn = family.roll_out(state, KEY, given, family.sampler, 9)
    assert drawn.shape == (2, 4, 4, 9)
    np.testing.assert_array_equal(drawn[..., :3], given)
