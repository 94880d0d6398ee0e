"""Likelihoods against scipy, and as distributions: they sum to one, and draws land where they
may.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, Tabular
from genjax.losses import discretized_logistic_nll

KEY = jax.random.key(0)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_discretized_logistic_is_a_distribution_over_its_levels(levels):
    x = np.linspace(-1, 1, levels, dtype=np.float32)[:, None]
    for mean, log_scale in ((0.0, -1.0), (0.93, -4.0), (-1.5, 0.5), (0.31, -6.0)):
        nll = discretized_logistic_nll(
            jnp.full((levels, 1), mean), jnp.float32(log_scale), x, levels
        )
        np.testing.assert_allclose(np.exp(-np.asarray(nll, np.float64)).sum(), 1, rtol=1e-4)


def test_the_discretized_logistic_equals_differences_of_scipys_distribution():
    draw = np.random.default_rng(0)
    level = draw.integers(0, 256, (50, 4))
    x = (level / 127.5 - 1).astype(np.float32)
    mean, log_scale = draw.normal(size=(2, 50, 4)) * [[[0.5]], [[0.3]]] + [[[0]], [[-1.5]]]
    logistic = stats.logistic(mean, np.exp(log_scale))
    upper = np.where(level == 255, 1, logistic.cdf(x + 1 / 255))
    lower = np.where(level == 0, 0, logistic.cdf(x - 1 / 255))
    expected = -np.log(upper - lower).sum(-1)
    found = discretized_logistic_nll(mean.astype(np.float32), log_scale.astype(np.float32), x, 256)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_discretized_logistic_is_finite_and_has_a_gradient_far_out():
    x = jnp.asarray([[-1.0, 0.1, 1.0]])
    value, grad = jax.value_and_grad(
        lambda m: discretized_logistic_nll(m, jnp.float32(-7), x, 256).sum()
    )(jnp.asarray([[50.0, 50.0, -50.0]]))
    assert np.isfinite(value) and np.isfinite(grad).all() and (np.abs(grad) > 100).all()


def test_draws_of_the_discretized_logistic_land_on_levels_and_have_its_law():
    likelihood = DiscretizedLogistic("fixed", 0.2, levels=9)
    draws = np.asarray(likelihood.draw({}, KEY, jnp.full((40_000, 1), 0.3)))[:, 0]
    levels = np.linspace(-1, 1, 9, dtype=np.float32)
    counts = (np.abs(draws[:, None] - levels) < 1e-6).sum(0)
    assert counts.sum() == len(draws)
    expected = np.exp(
        -np.asarray(likelihood.nll({}, jnp.full((9, 1), 0.3), jnp.asarray(levels)[:, None]))
    )
    np.testing.assert_allclose(counts / len(draws), expected, atol=0.01)


@pytest.mark.parametrize("levels", [None, 17])
def test_the_discretized_logistic_wants_data_of_its_levels(levels):
    spec = Spec("image", (2, 2, 1), np.zeros((2, 2, 1), np.float32), levels=levels)
    with pytest.raises(UserError, match="levels must fit the data, which .* got 256"):
        DiscretizedLogistic().check(spec)
    if levels:
        DiscretizedLogistic(levels=levels).check(spec)


@pytest.mark.parametrize("likelihood", [Gaussian, DiscretizedLogistic])
def test_bad_spreads_are_refused(likelihood):
    with pytest.raises(
        UserError, match=rf"value must be above 0, got 0.0 \({likelihood.__name__}\)"
    ):
        likelihood("shared", 0.0)
    with pytest.raises(UserError, match="spread must be one of 'fixed', 'shared', 'predicted'"):
        likelihood("predict")


def test_bernoulli_draws_have_their_mean():
    draws = Bernoulli().draw({}, KEY, jnp.full((20_000, 1), 0.8))
    assert set(np.unique(draws)) == {-1.0, 1.0}
    np.testing.assert_allclose(draws.mean(), 2 * stats.logistic.cdf(0.8) - 1, atol=0.02)


TABLE = {
    "mean": jnp.asarray([0.1, -0.2, 0.25, 0.75, 0.5, 0.5, 0.0]),
    "shares": (jnp.zeros(2), jnp.zeros(3)),
}


def test_a_table_has_gaussian_numbers_and_categorical_blocks():
    likelihood, draw = Tabular(0.2).of(TABLE), np.random.default_rng(0)
    assert (likelihood.numbers, likelihood.sizes) == (2, (2, 3))
    outputs, numbers = (
        draw.normal(size=(9, 7)).astype(np.float32),
        draw.normal(size=(9, 2)).astype(np.float32),
    )
    first, second = draw.integers(0, 2, 9), draw.integers(0, 3, 9)
    x = np.concatenate([numbers, np.eye(2)[first], np.eye(3)[second]], axis=1).astype(np.float32)
    params = {"log_std": jnp.log(jnp.asarray([0.5, 2.0]))}
    expected = -stats.norm(outputs[:, :2], [0.5, 2.0]).logpdf(numbers).sum(1)
    for block, chosen in ((outputs[:, 2:4], first), (outputs[:, 4:], second)):
        p = special.softmax(block.astype(np.float64), axis=1)
        expected -= np.log(p[np.arange(9), chosen])
    np.testing.assert_allclose(likelihood.nll(params, outputs, x), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(likelihood.init()["log_std"]), [0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(
        likelihood.mean(outputs)[:, 2:4], special.softmax(outputs[:, 2:4], axis=1), rtol=1e-5
    )


def test_a_table_starts_at_the_means_and_shares_of_the_data():
    likelihood = Tabular().of(TABLE)
    mean = likelihood.mean(likelihood.offset(TABLE["mean"])[None])[0]
    np.testing.assert_allclose(
        mean, TABLE["mean"], atol=2e-3
    )  # a category that no row has keeps a chance
    assert mean[-1] > 0


def test_numbers_of_one_value_do_not_make_the_density_boundless():
    likelihood, x = Tabular().of(TABLE), jnp.asarray([[0.0, 0, 1, 0, 1, 0, 0]])
    nll, narrow = (
        likelihood.nll({"log_std": jnp.full(2, log)}, 9 * x, x) for log in (-50.0, np.log(0.01))
    )
    np.testing.assert_allclose(nll, narrow, rtol=1e-6)


def test_draws_of_a_table_are_rows_with_its_law():
    likelihood, count = Tabular().of(TABLE), 40_000
    outputs = jnp.asarray([[0.3, -1.0, 0.0, 1.0, 2.0, 0.0, -1.0]])
    params = {"log_std": jnp.log(jnp.asarray([0.5, 2.0]))}
    draws = np.asarray(likelihood.draw(params, KEY, jnp.repeat(outputs, count, 0)))
    assert set(np.unique(draws[:, 2:])) == {0.0, 1.0}
    np.testing.assert_array_equal(draws[:, 2:4].sum(1), 1)
    np.testing.assert_array_equal(draws[:, 4:].sum(1), 1)
    np.testing.assert_allclose(draws.mean(0), likelihood.mean(outputs)[0], atol=0.04)
    np.testing.assert_allclose(draws[:, :2].std(0), [0.5, 2.0], rtol=0.02)


def test_a_likelihood_of_tables_wants_tables():
    spec = Spec("image", (2, 2, 1), np.zeros((2, 2, 1), np.float32))
    with pytest.raises(UserError, match="Tabular is for tables, got image data"):
        Tabular().check(spec)
    Tabular().check(Spec("table", (3,), np.zeros(3, np.float32), categories=(2,)))
    with pytest.raises(UserError, match="std must be at least 0.01, got 0.001"):
        Tabular(0.001)
    assert Gaussian().of(TABLE) == Gaussian() and Bernoulli().of(TABLE) == Bernoulli()
