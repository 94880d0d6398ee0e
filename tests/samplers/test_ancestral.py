"""Stochastic samplers: what they draw from Gaussian data has moments in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.samplers import DDIM, DDPM, Ancestral
from genjax.samplers.diffusion.processes import EDM, Straight, VPCosine, VPLinear
from tests.samplers.exact import Gaussian

DATA = Gaussian()
COUNT = 20_000


def small(a, s, a2, s2):
    """The posterior's deviation, of DDPM's formula with beta = 1 - (a / a2)^2 where variance
    is preserved.
    """
    return np.sqrt(max((s**2 - (a / a2 * s2) ** 2), 0)) * s2 / s


def eta(value):
    return lambda *levels: (value * small(*levels), value * small(*levels))


def large(a, s, a2, s2):
    return small(a, s, a2, s2), np.sqrt(max(s**2 - (a / a2 * s2) ** 2, 0)) if s2 else 0.0


def draws(sampler, process, seed=0):
    """Samples [COUNT, 3]."""
    _, sigma = process.alpha_sigma(jnp.ones(()))
    start, way = jax.random.split(jax.random.key(seed))

    @jax.jit
    def draw(start, way):
        x = sigma * jax.random.normal(start, (COUNT, 3))
        return sampler(DATA.denoise(process), process, x, way)

    return np.asarray(draw(start, way), np.float64)


def assert_moments(samples, mean, variance):
    """Within five standard errors of normal draws."""
    np.testing.assert_array_less(abs(samples.mean(0) - mean), 5 * np.sqrt(variance / COUNT))
    np.testing.assert_array_less(abs(samples.var(0) - variance), 5 * variance * np.sqrt(2 / COUNT))


@pytest.mark.parametrize(
    ("sampler", "fresh", "process"),
    [
        (DDIM(12, eta=0.5), eta(0.5), VPLinear()),
        (DDIM(12, eta=0.5), eta(0.5), Straight()),
        (DDPM(12), eta(1.0), VPCosine()),
        (DDPM(12), eta(1.0), EDM(sigma_max=20.0)),
        (DDPM(12, "large"), large, VPLinear()),
        (DDPM(12, "large"), large, Straight()),
    ],
)
def test_moments_are_those_of_affine_steps(sampler, fresh, process):
    mean, variance = DATA.moments(process, process.grid(12), fresh)
    assert_moments(draws(sampler, process), mean, variance)


@pytest.mark.long
def test_a_thousand_steps_of_ddpm_draw_the_data():
    assert_moments(draws(DDPM(1000), VPLinear()), np.asarray(DATA.mean), np.square(DATA.std))


def test_ddpm_of_small_variance_is_ddim_with_eta_one_and_the_ancestral_one():
    samplers = (DDPM(8), DDIM(8, eta=1.0), Ancestral(8))
    x, key = jax.random.normal(jax.random.key(0), (16, 3)), jax.random.key(1)
    for process in (VPLinear(), Straight()):
        denoise = DATA.denoise(process)
        expected, *others = jax.jit(
            lambda x, d=denoise, p=process: [s(d, p, x, key) for s in samplers]
        )(x)
        for other in others:
            np.testing.assert_allclose(other, expected, atol=2e-5)


def test_the_posterior_is_that_of_ddpm():
    """One step from x_t and an estimate, against mean and variance of arXiv 2006.11239,
    equations 6 and 7.
    """
    process, x = VPLinear(), jnp.full((COUNT, 1), 0.8)
    grid = process.grid(2)
    samples = DDPM(2)(lambda x, t: jnp.where(t == 1, 0.3, x), process, x, jax.random.key(0))
    (a, a2), _ = process.alpha_sigma(grid)
    bar, bar2 = float(a) ** 2, float(a2) ** 2
    beta = 1 - bar / bar2
    mean = (
        np.sqrt(bar2) * beta / (1 - bar) * 0.3 + np.sqrt(bar / bar2) * (1 - bar2) / (1 - bar) * 0.8
    )
    variance = (1 - bar2) / (1 - bar) * beta
    assert_moments(np.asarray(samples, np.float64), np.asarray([mean]), np.asarray([variance]))


def test_noise_depends_on_the_key():
    assert DDPM(4).stochastic and Ancestral(4).stochastic and DDIM(4, eta=0.3).stochastic
    x = jnp.zeros((16, 3))
    one, other = (DDPM(2)(lambda x, t: x, VPCosine(), x, jax.random.key(seed)) for seed in (0, 1))
    assert abs(one - other).min() > 1e-4
    assert not Ancestral(4, eta=0.0).stochastic


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DDIM(10, eta=1.5), "eta must be from 0 to 1"),
        (lambda: Ancestral(10, eta=-0.1), "eta must be from 0 to 1"),
        (lambda: DDPM(10, variance="learned"), "variance must be one of 'small', 'large'"),
        (lambda: DDPM(0), "steps must be from 1 to 100000"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
