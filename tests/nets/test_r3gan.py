"""R3GAN: its resampling and initialisation, and its loss and penalties beside closed forms and
finite differences.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.gan import losses
from genjax.families.gan.gan import GAN
from genjax.family import init_state
from genjax.nets.gan.generators import MLPGenerator
from genjax.nets.gan.r3gan import (
    FixupBlock,
    R3Discriminator,
    R3Generator,
    double_bilinear,
    halve_bilinear,
)
from genjax.nets.mlp import MLPBackbone
from genjax.optim import SGD, Players
from genjax.schedules import Constant

KEY = jax.random.key(0)


def test_doubling_is_bilinear_interpolation_and_halving_its_weights():
    x = jax.random.normal(KEY, (2, 4, 3, 2))
    doubled = double_bilinear(x, (8, 6))
    np.testing.assert_allclose(
        doubled, jax.image.resize(x, (2, 8, 6, 2), "linear"), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(double_bilinear(x, (7, 5)), doubled[:, :7, :5])
    large = jax.random.normal(KEY, (2, 8, 6, 2))
    halved = halve_bilinear(large)
    by_library = jax.image.resize(large, (2, 4, 3, 2), "linear", antialias=True)
    # At the edges the library leaves pixels out, and this repeats them.
    np.testing.assert_allclose(
        halved[:, 1:-1, 1:-1], by_library[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-6
    )
    ones = jnp.ones((1, 7, 5, 1))
    assert halve_bilinear(ones).shape == (1, 4, 3, 1)
    np.testing.assert_allclose(halve_bilinear(ones), 1.0, rtol=1e-6)


def test_a_block_starts_as_the_identity_with_kernels_scaled_by_the_number_of_blocks():
    x = jax.random.normal(KEY, (2, 4, 4, 8))
    block = FixupBlock(expansion=8, group=16, blocks=16)
    y, variables = block.init_with_output(KEY, x)
    np.testing.assert_array_equal(y, x)
    params = variables["params"]
    assert params["grouped"]["kernel"].shape == (3, 3, 16, 64)  # 4 groups of 16
    gain = math.sqrt(2 / 1.04) / 2  # 16 to the power of -1/4
    for name, fan_in in (("widen", 8), ("grouped", 9 * 16)):
        np.testing.assert_allclose(
            params[name]["kernel"].std(), gain / math.sqrt(fan_in), rtol=0.15, err_msg=name
        )
    assert set(params["narrow"]) == {"kernel"} and not params["narrow"]["kernel"].any()


def quadratic(a, matrix):
    return lambda x: x @ a + 0.5 * ((x @ matrix) * x).sum(-1)


def test_r1_and_r2_are_half_their_weight_times_the_squared_slope_at_real_and_at_fake():
    """D(x) = a x + x M x / 2 has the gradient a + M x."""
    draw = np.random.default_rng(0)
    a, half = draw.normal(size=3).astype(np.float32), draw.normal(size=(3, 3)).astype(np.float32)
    matrix = half + half.T
    real, fake = (draw.normal(size=(5, 3)).astype(np.float32) for _ in range(2))
    slopes = [np.square(a + x @ matrix).sum(-1) for x in (real, fake)]
    for r1, r2 in ((0.7, 0.0), (0.0, 0.3), (0.7, 0.3)):
        found = losses.compute_penalty(
            quadratic(a, matrix), jnp.asarray(real), jnp.asarray(fake), KEY, (0.0, r1, r2)
        )
        np.testing.assert_allclose(found, 0.5 * (r1 * slopes[0] + r2 * slopes[1]), rtol=1e-4)


def test_the_penalty_of_the_net_and_its_gradient_are_those_of_finite_differences():
    net = R3Discriminator(channels=(4,), blocks=1, expansion=2, group=4).backbone()
    x = 0.5 * jax.random.normal(KEY, (2, 3, 3, 1))
    params = net.init(KEY, x, train=True)
    # Kernels of zeros would hide the blocks.
    params = jax.tree.map(lambda p: p + 0.2, params)
    direction = jax.random.normal(jax.random.key(1), x.shape)

    @jax.jit
    def logit(params, x):
        return net.apply(params, x, train=True).sum(-1)

    slope = jax.grad(lambda x: logit(params, x).sum())(x)
    step = 1e-2
    ends = [logit(params, x + sign * step * direction) for sign in (1, -1)]
    np.testing.assert_allclose(
        (ends[0] - ends[1]) / (2 * step), (slope * direction).sum((1, 2, 3)), rtol=2e-2, atol=2e-2
    )

    @jax.jit
    def penalty(params):
        critic = functools.partial(logit, params)
        return losses.compute_penalty(critic, x, -x, KEY, (0.0, 1.0, 1.0)).mean()

    gradient = jax.jit(jax.grad(penalty))(params)
    along = jax.tree.map(lambda g: g / 10, gradient)  # uphill
    rise = sum(
        float((g * d).sum()) for g, d in zip(*map(jax.tree.leaves, (gradient, along)), strict=True)
    )
    size = 1e-2 / math.sqrt(rise * 10)
    high, low = (
        penalty(jax.tree.map(lambda p, d, s=sign: p + s * size * d, params, along))
        for sign in (1, -1)
    )
    np.testing.assert_allclose((high - low) / (2 * size), rise, rtol=2e-2)


def test_a_step_of_the_relativistic_game_with_both_penalties_is_the_hand_computed_one():
    """With linear players, D(x) = x w + b, both penalties are half their weight times |w|^2, and b
    has no gradient, as only differences of logits count.
    """
    family = GAN(2, MLPGenerator(()), MLPBackbone(()), loss="relativistic", r1=0.6, r2=0.2)
    rule = Players(SGD(Constant(0.05)), SGD(Constant(0.1))).build(10)
    x = jax.random.normal(KEY, (6, 2))
    batch, spec = {"points": x, "mask": jnp.ones(6)}, Spec("points", (2,), np.zeros(2, np.float32))
    example = {name: rows[:1] for name, rows in batch.items()}
    state = init_state(*family.init(KEY, example, spec), rule, KEY)
    new, metrics = jax.jit(functools.partial(family.train_step, optimizer=rule))(state, batch)
    maker, judge = state.params["generator"]["net"]["output"], state.params["discriminator"]["head"]
    # A step folds in the number of the update, and an update that of the microbatch.
    z = family.nets.draw_latents(jax.random.fold_in(jax.random.fold_in(state.step_key, 0), 0), 6)

    def fakes(maker):
        return z @ maker["kernel"] + maker["bias"][None]

    def margins(judge, maker):
        real, fake = ((y @ judge["kernel"])[:, 0] for y in (x, fakes(maker)))
        return real - fake

    def critic(judge):
        penalty = 0.5 * (0.6 + 0.2) * jnp.square(judge["kernel"]).sum()
        return jnp.log1p(jnp.exp(-margins(judge, maker))).mean() + penalty

    loss, gradient = jax.value_and_grad(critic)(judge)
    np.testing.assert_allclose(metrics["discriminator_loss"].value, loss, rtol=1e-5)
    moved = judge["kernel"] - 0.1 * gradient["kernel"]
    np.testing.assert_allclose(new.params["discriminator"]["head"]["kernel"], moved, rtol=1e-4)
    np.testing.assert_allclose(
        new.params["discriminator"]["head"]["bias"], judge["bias"], atol=1e-7
    )


@pytest.mark.parametrize("kind", [R3Generator, R3Discriminator])
def test_groups_that_do_not_divide_are_refused(kind):
    with pytest.raises(UserError) as refused:
        kind(channels=(8, 12), expansion=1, group=8)
    assert refused.value.field == "group"
    with pytest.raises(UserError) as refused:
        kind(channels=())
    assert refused.value.field == "channels"


@pytest.mark.long
def test_the_game_of_its_nets_runs_on_images_of_an_odd_size():
    spec = Spec("image", (7, 5, 2), np.zeros((7, 5, 2), np.float32))
    family = GAN(
        4,
        R3Generator((8, 4), blocks=1, group=4),
        R3Discriminator((4, 8), blocks=1, group=4),
        loss="relativistic",
        r1=1.0,
        r2=1.0,
    )
    rule = Players(SGD(Constant(0.01)), SGD(Constant(0.01))).build(10)
    batch = {"image": jax.random.normal(KEY, (4, 7, 5, 2)), "mask": jnp.ones(4)}
    example = {name: rows[:1] for name, rows in batch.items()}
    state = init_state(*family.init(KEY, example, spec), rule, KEY)
    after, metrics = jax.jit(functools.partial(family.train_step, optimizer=rule))(state, batch)
    assert metrics["skipped"].value == 0
    assert family.sample(after, KEY, 3, family.sampler).shape == (3, 7, 5, 2)
