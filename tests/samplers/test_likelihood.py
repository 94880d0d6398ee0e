"""The density through the ODE against densities that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from genjax.errors import UserError
from genjax.samplers import log_density
from genjax.samplers.diffusion.processes import EDM, Straight, VPLinear
from tests.samplers.exact import Mixture

COVARIANCE = np.asarray([[1.0, 0.6], [0.6, 0.5]])


def correlated(process):
    """The posterior mean of a normal with a full covariance, about 0: x_1 is then N(0,
    sigma(1)^2) but for 1e-4.
    """
    values, vectors = (jnp.asarray(a, jnp.float32) for a in np.linalg.eigh(COVARIANCE))

    def denoise(x, t):
        alpha, sigma = process.alpha_sigma(t)
        gain = alpha * values / (alpha**2 * values + sigma**2)
        return (x @ vectors * gain[None]) @ vectors.T

    return denoise


def points(n=6):
    return jnp.asarray(np.random.default_rng(1).normal(size=(n, 2)), jnp.float32)


def blur(process):
    alpha, sigma = process.alpha_sigma(jnp.asarray(process.t_min))
    return float(sigma / alpha)


def test_a_gaussian_has_its_density():
    process, x = EDM(), points()
    found = jax.jit(lambda x, key: log_density(correlated(process), process, x, key, probes=None))(
        x, jax.random.key(0)
    )
    exact = multivariate_normal(np.zeros(2), COVARIANCE + blur(process) ** 2 * np.eye(2)).logpdf(x)
    np.testing.assert_allclose(found, exact, atol=1e-3)


def test_a_mixture_has_its_density_and_hutchinson_no_bias():
    process, data, count = Straight(), Mixture(), 300
    x = points(3)

    @jax.jit
    def densities(x, many, key):
        denoise = data.denoise(process)
        exact = log_density(denoise, process, x, key, probes=None)
        return exact, log_density(denoise, process, many, key, 1e-3, 1e-3, probes=2)

    exact, estimates = densities(x, jnp.repeat(x, count, axis=0), jax.random.key(0))
    np.testing.assert_allclose(exact, data.log_density(x, blur(process)), atol=1e-3)
    estimates = np.asarray(estimates, np.float64).reshape(3, count)
    error = estimates.std(1) / np.sqrt(count)
    assert (error > 1e-4).all()  # examples have probes of their own
    np.testing.assert_array_less(abs(estimates.mean(1) - exact), 5 * error + 2e-3)


def test_images_are_sums_over_all_their_entries():
    """Entries N(0, 1): the ODE of a variance-preserving process stands still, and any number
    of probes is exact.
    """
    process, x = VPLinear(), jax.random.normal(jax.random.key(0), (2, 3, 2, 1))

    def denoise(x, t):
        return process.alpha_sigma(t)[0] * x

    found = jax.jit(lambda x, key: log_density(denoise, process, x, key))(x, jax.random.key(1))
    flat = np.asarray(x, np.float64).reshape(2, -1)
    np.testing.assert_allclose(found, -0.5 * (flat**2).sum(1) - 3 * np.log(2 * np.pi), rtol=1e-3)


def test_bad_values_are_refused():
    x, key = points(), jax.random.key(0)
    for options in ({"probes": 0}, {"max_steps": 0}, {"rtol": 0.0, "atol": 0.0}, {"atol": -1.0}):
        with pytest.raises(
            UserError, match="(probes|max_steps) must be >= 1|rtol and atol must be"
        ):
            log_density(correlated(VPLinear()), VPLinear(), x, key, **options)
