"""Adversarial losses, slopes and gauges against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.families.gan import losses as adversarial

LN3 = float(np.log(3))
REAL, FAKE = jnp.array([LN3, 0.0]), jnp.array([0.0, -LN3])  # D(x) = 3/4, 1/2 and 1/2, 1/4

# -log 3/4 - log 1/2 = log 8/3, twice; the rest from the papers' formulas
DISCRIMINATOR = {
    "non_saturating": [np.log(8 / 3)] * 2,
    "minimax": [np.log(8 / 3)] * 2,
    "wasserstein": [-LN3, -LN3],
    "hinge": [0 + 1, 1 + 0],
    "least_squares": [0.5 * (LN3 - 1) ** 2, 0.5 + 0.5 * LN3**2],
    "relativistic": [np.log(4 / 3)] * 2,  # softplus(-ln 3)
}
GENERATOR = {
    "non_saturating": [np.log(2), np.log(4)],
    "minimax": [-np.log(2), -np.log(4 / 3)],
    "wasserstein": [0, LN3],
    "hinge": [0, LN3],
    "least_squares": [0.5, 0.5 * (LN3 + 1) ** 2],
    "relativistic": [np.log(4)] * 2,  # softplus(ln 3)
}


@pytest.mark.parametrize("loss", DISCRIMINATOR)
def test_losses_are_those_of_the_papers(loss):
    found = adversarial.discriminator_loss(loss, REAL, FAKE)
    np.testing.assert_allclose(found, DISCRIMINATOR[loss], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        adversarial.generator_loss(loss, FAKE, REAL), GENERATOR[loss], rtol=1e-6, atol=1e-6
    )


def test_smoothed_targets_are_least_where_the_discriminator_says_one_minus_the_smoothing():
    logits = jnp.linspace(-4, 6, 2001)
    losses = adversarial.discriminator_loss("non_saturating", logits, jnp.zeros_like(logits), 0.1)
    best = logits[losses.argmin()]
    np.testing.assert_allclose(jax.nn.sigmoid(best), 0.9, atol=1e-3)


def test_minimax_and_non_saturating_pull_alike_but_not_equally_hard():
    at = jnp.array([-5.0])
    pull = {
        name: jax.grad(lambda f, n=name: adversarial.generator_loss(n, f, f).sum())(at)[0]
        for name in ("minimax", "non_saturating")
    }
    np.testing.assert_allclose(pull["minimax"], -jax.nn.sigmoid(-5.0), rtol=1e-5)
    np.testing.assert_allclose(pull["non_saturating"], -jax.nn.sigmoid(5.0), rtol=1e-5)


def test_hits_count_sides_of_the_boundary_or_pairs_in_order():
    real, fake = jnp.array([0.2, -1.0, 0.7]), jnp.array([0.1, -2.0, 0.9])
    for loss, expected in {
        "non_saturating": ([1, 0, 1], [0, 1, 0]),
        "least_squares": ([0, 0, 1], [1, 1, 0]),
        "wasserstein": ([1, 1, 0], [1, 1, 0]),
    }.items():
        for side, want in zip(adversarial.hits(loss, real, fake), expected, strict=True):
            np.testing.assert_array_equal(side, want)


def test_the_slope_of_a_quadratic_and_its_penalty():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8]])
    slope = adversarial.squared_gradient_norm(lambda x: 0.5 * jnp.square(x).sum(-1), x)
    np.testing.assert_allclose(slope, [25, 0, 1], atol=1e-6)
    np.testing.assert_allclose(adversarial.gradient_penalty(slope), [16, 1, 0], atol=1e-5)
    gradient = jax.grad(lambda s: adversarial.gradient_penalty(s).sum())(jnp.zeros(1))
    assert np.isfinite(gradient).all(), "a flat critic must not give NaN"


def test_the_slope_of_a_pack_is_that_of_all_its_examples():
    x = jnp.array([[1.0], [2.0], [3.0], [4.0]])  # packs (1, 3) and (2, 4)

    def critic(x):
        first, second = jnp.split(x, 2)
        return (first * second).sum(-1)

    np.testing.assert_allclose(
        adversarial.squared_gradient_norm(critic, x, pack=2), [1 + 9, 4 + 16]
    )


def test_points_between_lie_on_the_line_and_a_pack_moves_as_one():
    real, fake = jnp.ones((6, 2)), jnp.zeros((6, 2))
    x = adversarial.interpolate(jax.random.key(0), real, fake, pack=2)
    assert (x >= 0).all() and (x <= 1).all()
    np.testing.assert_array_equal(x[:, 0], x[:, 1])
    np.testing.assert_array_equal(x[:3], x[3:])
    assert len(np.unique(x[:3, 0])) == 3


def after(logits, spread=1.0, real=0.5, fake=0.5):
    def one(gauges, logit):
        return adversarial.update_gauges(
            gauges, logit, logit**2 + spread**2, jnp.float32(real), jnp.float32(fake)
        ), None

    return jax.lax.scan(one, adversarial.start_gauges(), jnp.asarray(logits, jnp.float32))[0]


def test_the_gauge_of_oscillation_is_the_swing_in_standard_deviations_of_a_batch():
    np.testing.assert_allclose(adversarial.oscillation(after(np.ones(50))), 0, atol=1e-2)
    swinging = 3.0 * np.sin(
        np.arange(2000) * 2 * np.pi / 20
    )  # amplitude 3: standard deviation 3 / sqrt(2)
    np.testing.assert_allclose(
        adversarial.oscillation(after(swinging, spread=1.5)), np.sqrt(2), rtol=0.02
    )
    noise = np.random.default_rng(0).normal(size=5000) / np.sqrt(64)  # a mean over 64
    np.testing.assert_allclose(adversarial.oscillation(after(noise)), 1 / 8, rtol=0.2)


def test_accuracies_are_right_from_the_first_step_on():
    for steps in (1, 5, 300):
        np.testing.assert_allclose(
            adversarial.accuracies(after(np.zeros(steps), real=0.75, fake=0.25)),
            [0.75, 0.25],
            rtol=1e-6,
        )
    np.testing.assert_array_equal(adversarial.accuracies(adversarial.start_gauges()), [0, 0])
