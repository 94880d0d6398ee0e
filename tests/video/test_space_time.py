"""Factorised space-time attention: what each state may see, patches with a margin, copies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.nets.transformer.dit import patchify
from genjax.nets.transformer.space_time import (
    Copying,
    SpaceTime,
    cut_patches,
    join_states,
    match_shifts,
    shift_patches,
    split_states,
)

KEY = jax.random.key(0)
SMALL = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "ratio": 1}


def shake(variables):
    return jax.tree.map(lambda p: p + 0.3 * jax.random.normal(KEY, p.shape), variables)


def test_states_in_channels_go_back():
    x = jax.random.normal(KEY, (2, 3, 3, 6))
    states = split_states(x, 2)
    np.testing.assert_array_equal(states[1, 2, 0, 1], x[1, 0, 1, 4:])
    np.testing.assert_array_equal(join_states(states), x)


def test_patches_with_a_margin_show_what_lies_beside():
    x = jax.random.normal(KEY, (2, 4, 6, 3))
    np.testing.assert_array_equal(cut_patches(x, 2), patchify(x, 2))
    wide = cut_patches(x, 2, 1).reshape(2, 2, 3, 4, 4, 3)
    np.testing.assert_array_equal(wide[1, 0, 1, 1:, :], x[1, 0:3, 1:5])
    assert not wide[:, 0, :, 0].any() and not wide[:, :, 2, :, 3].any()


@pytest.mark.parametrize("extras", [{}, {"copies": 2, "matches": 2}])
def test_a_prediction_depends_on_earlier_states_alone_and_on_all_of_them(extras):
    net = SpaceTime(**SMALL, margin=1, history=2, **extras).predictor((8, 8, 5))
    x = jax.random.uniform(KEY, (1, 8, 8, 5), minval=-1)
    variables = shake(jax.jit(lambda: net.init(KEY, x, train=False))())
    run = jax.jit(lambda x: net.apply(variables, x, train=False))
    before = run(x)
    assert before.shape == x.shape
    for t in range(5):
        changed = run(x.at[..., t].set(0.7))
        np.testing.assert_array_equal(changed[..., : t + 1], before[..., : t + 1])
        for later in range(t + 1, 5):
            assert np.abs(changed[..., later] - before[..., later]).max() > 1e-6
    # And on every place of them, by attention over space.
    far = run(x.at[:, 0, 0, 1].add(0.5))
    assert np.abs((far - before)[:, 7, 7, 2]).max() > 1e-7


def test_a_denoiser_begins_at_zero_and_sees_every_state():
    net = SpaceTime(**SMALL).denoiser((8, 8, 3))
    x, vector = jax.random.normal(KEY, (2, 8, 8, 3)), jax.random.normal(KEY, (2, 6))
    y, variables = jax.jit(lambda: net.init_with_output(KEY, x, vector, train=False))()
    assert y.shape == x.shape and not y.any()
    variables = shake(variables)
    run = jax.jit(lambda x, vector: net.apply(variables, x, vector, train=True))
    y = run(x, vector)
    assert (run(x.at[..., 2].add(1.0), vector) != y)[..., 0].any()
    assert (run(x, vector + 1) != y).any()
    np.testing.assert_allclose(run(x[::-1], vector[::-1]), y[::-1], atol=1e-5)


def test_a_sure_kernel_copies_the_moved_state():
    sizes = SpaceTime(**SMALL, copies=1, reach=1)
    last = jax.random.uniform(KEY, (1, 1, 8, 8, 1), minval=-0.9, maxval=0.9)
    tokens, logits = jnp.zeros((1, 1, 4, 8)), jnp.zeros((1, 1, 4, 16))
    params = jax.tree.map(jnp.zeros_like, Copying(sizes).init(KEY, tokens, last, logits))
    # The state one pixel up: what lies below comes here. And all of the weight on the copy.
    params["params"]["kernels"]["dense"]["bias"] = jnp.zeros(9).at[3 * 2 + 1].set(100.0)
    params["params"]["weights"]["dense"]["bias"] = jnp.zeros(32).at[:16].set(100.0)
    found = jax.nn.sigmoid(Copying(sizes).apply(params, tokens, last, logits))
    wanted = jnp.pad((last[0, 0, :, :, 0] + 1) / 2, ((0, 1), (0, 0)))[1:]
    np.testing.assert_allclose(found[0, 0, :2].reshape(2, 4, 4), patches(wanted)[:2], atol=1e-5)
    np.testing.assert_allclose(found[0, 0, 2:].reshape(2, 4, 4), patches(wanted)[2:], atol=1e-5)


def test_in_bfloat16_a_sure_copy_stays_finite():
    sizes = SpaceTime(**SMALL, copies=1, reach=1)
    net = sizes.predictor((4, 4, 2))
    x = -jnp.ones((1, 4, 4, 2), jnp.bfloat16)
    variables = net.init(KEY, x, train=False)
    variables = jax.tree.map(lambda p: p.astype(jnp.bfloat16), variables)
    found = net.apply(variables, x, train=False)
    assert np.isfinite(np.asarray(found, np.float32)).all()


def test_the_shift_of_a_patch_is_found():
    pattern = jax.random.uniform(KEY, (8, 8, 1))
    states = jnp.stack([pattern, jnp.roll(pattern, (1, 1), (0, 1))])[None]  # down and right
    moved = shift_patches(states, 4, 1)
    assert moved.shape == (1, 2, 4, 9, 16)
    np.testing.assert_array_equal(moved[:, :, :, 4], shift_patches(states, 4, 0)[:, :, :, 0])
    found = match_shifts(states, 4, 1)
    assert found.shape == (1, 2, 4, 9)
    assert int(found[0, 1, 3].argmax()) == 0 and float(found[0, 1, 3, 0]) > 0.9  # from above left


def patches(image):
    return patchify(image[None, :, :, None], 4)[0].reshape(-1, 4, 4)


@pytest.mark.parametrize(
    ("fields", "shape", "field"),
    [
        ({"patch": 3}, (8, 8, 4), "patch"),
        ({"channels": 3}, (8, 8, 4), "channels"),
        ({"heads": 3}, None, "heads"),
        ({"width": 6}, None, "width"),
        ({"margin": -1}, None, "margin"),
    ],
)
def test_shapes_and_sizes_that_do_not_fit_are_refused(fields, shape, field):
    with pytest.raises(UserError) as caught:
        SpaceTime(**{**SMALL, **fields}).predictor(shape)
    assert caught.value.field == field
