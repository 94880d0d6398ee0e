"""Processes and parametrizations against closed forms, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.samplers.diffusion.processes import (
    EDM,
    Parametrization,
    Straight,
    VPCosine,
    VPLinear,
    compute_noise,
    diffuse,
    rates,
    velocity,
)

PROCESSES = [VPLinear(), VPCosine(shift=-1.0), EDM(), Straight()]
VARIANCE_PRESERVING = [VPLinear(), VPCosine(), VPCosine(shift=-1.0)]
TARGETS = ["noise", "x0", "v", "velocity"]
WEIGHTINGS = ["min_snr", "edm", "likelihood"]


def pairs():
    return [
        (p, t) for p in PROCESSES for t in TARGETS if not (isinstance(p, Straight) and t == "noise")
    ]


def named(value):
    return value if isinstance(value, str) else repr(value)


def drawn(process, n=64):
    """Data [n, 2, 3] of standard deviation 0.5, unit noise and training times [n]."""
    x0, noise = jax.random.normal(jax.random.key(0), (2, n, 2, 3))
    return 0.5 * x0, noise, process.draw_times(jax.random.key(1), n)


@pytest.mark.parametrize("process", PROCESSES, ids=named)
def test_alpha_never_rises_and_sigma_rises(process):
    with jax.enable_x64(True):
        alpha, sigma, alpha_rate, sigma_rate = rates(process, jnp.linspace(process.t_min, 1, 1001))
        assert (np.diff(alpha) <= 0).all() and (np.diff(sigma) > 0).all()
        slopes = (
            np.gradient(alpha, 1e-3 * (1 - process.t_min)),
            np.gradient(sigma, 1e-3 * (1 - process.t_min)),
        )
        for rate, slope in zip((alpha_rate, sigma_rate), slopes, strict=True):
            np.testing.assert_allclose(rate[20:-1], slope[20:-1], rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("process", VARIANCE_PRESERVING, ids=named)
def test_variance_is_preserved(process):
    alpha, sigma = process.alpha_sigma(jnp.linspace(process.t_min, 1, 101))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)


def test_linear_integrates_its_betas():
    process = VPLinear(0.2, 15.0)
    with jax.enable_x64(True):
        t = jnp.linspace(0, 1, 20001)
        beta = 0.2 + 14.8 * t
        integral = jnp.append(0.0, jnp.cumsum(0.5 * (beta[1:] + beta[:-1]) * jnp.diff(t)))
        alpha, sigma = process.alpha_sigma(t)
        np.testing.assert_allclose(alpha**2, np.exp(-integral), rtol=1e-10)
        snr = 1 / np.expm1(integral[1:])
        np.testing.assert_allclose((alpha[1:] / sigma[1:]) ** 2, snr, rtol=1e-8)


def test_linear_starts_where_ddpm_does():
    alpha, sigma = VPLinear().alpha_sigma(jnp.asarray([1e-3, 1.0]))
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(sigma[0] ** 2, betas[0], rtol=0.11)
    np.testing.assert_allclose(np.log(alpha[1] ** 2), np.log1p(-betas).sum(), rtol=0.01)


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_cosine_has_the_log_snr_it_says_within_its_limits(shift):
    process = VPCosine(logsnr_max=8.0, shift=shift)
    alpha, sigma = process.alpha_sigma(jnp.linspace(0, 1, 101))
    log_snr = 2 * np.log(np.asarray(alpha / sigma, np.float64))
    np.testing.assert_allclose(log_snr[[0, -1]], [8, -8], rtol=1e-4)
    first, last = np.arctan(np.exp(0.5 * (shift - 8))), np.arctan(np.exp(0.5 * (shift + 8)))
    angle = np.linspace(first, last, 101)
    np.testing.assert_allclose(log_snr, -2 * np.log(np.tan(angle)) + shift, rtol=1e-4, atol=1e-3)
    if shift == 0:
        t = 2 * angle / np.pi
        assert abs(t - np.linspace(0, 1, 101)).max() < 0.012  # the limits move times by no more
        np.testing.assert_allclose(alpha, np.cos(np.pi * t / 2), atol=1e-6)


def test_edm_has_the_grid_of_its_paper():
    i = np.arange(18)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    alpha, sigma = EDM().alpha_sigma(EDM().grid(18))
    np.testing.assert_allclose(sigma, expected, rtol=1e-5)
    assert (alpha == 1).all()


def test_edm_trains_at_log_normal_noise():
    process = EDM(mean=-0.4, std=1.0)
    _, sigma = process.alpha_sigma(process.draw_times(jax.random.key(0), 4096))
    log_sigma = np.log(np.asarray(sigma, np.float64))
    np.testing.assert_allclose([log_sigma.mean(), log_sigma.std()], [-0.4, 1.0], atol=2e-3)
    np.testing.assert_allclose(np.quantile(log_sigma, [0.1587, 0.8413]), [-1.4, 0.6], atol=5e-3)


@pytest.mark.parametrize("process", [*PROCESSES, EDM(mean=0.0, std=3.0)], ids=named)
def test_the_mean_over_the_density_of_training_times_is_an_integral(process):
    t = process.draw_times(jax.random.key(3), 8192)
    density = process.density(t)
    assert t.shape == density.shape == (8192,) and t.min() >= process.t_min and t.max() <= 1
    # Over the middle alone: where EDM hardly ever trains, a mean over draws says nothing.
    inside = (t > 0.3) & (t < 0.6)
    np.testing.assert_allclose(
        (jnp.where(inside, t**2, 0) / density).mean(), (0.6**3 - 0.3**3) / 3, rtol=0.01
    )
    whole = jnp.linspace(process.t_min, 1, 10001)
    np.testing.assert_allclose(np.trapezoid(process.density(whole), whole), 1, rtol=1e-3)


@pytest.mark.parametrize("process", [VPLinear(), VPCosine(), Straight()], ids=named)
def test_uniform_times_fall_one_in_each_part(process):
    t = (np.asarray(process.draw_times(jax.random.key(4), 16)) - process.t_min) / (
        1 - process.t_min
    )
    np.testing.assert_array_equal(np.floor(16 * t), np.arange(16))
    other = np.asarray(process.draw_times(jax.random.key(5), 16))
    assert abs(other - t).min() > 1e-4


@pytest.mark.parametrize("process", PROCESSES, ids=named)
def test_grids_fall_from_one_and_keep_off_the_clean_end(process):
    for n in (1, 7, 4000):
        grid = np.asarray(process.grid(n))
        assert (
            grid.shape == (n,)
            and grid[0] == 1
            and (np.diff(grid) < 0).all()
            and grid[-1] >= process.t_min * 0.9999
        )
        assert process.alpha_sigma(process.grid(n))[1][-1] > 0
        if not isinstance(process, EDM) and 1 / n >= process.t_min:
            np.testing.assert_allclose(grid, 1 - np.arange(n) / n, atol=2e-7)


@pytest.mark.parametrize(("process", "target"), pairs(), ids=named)
def test_a_target_gives_back_the_data_at_all_training_times(process, target):
    x0, noise, t = drawn(process)
    of = Parametrization(process, target, data_std=0.5)
    found = jax.jit(lambda: of.x0(of.value(x0, noise, t), diffuse(process, x0, noise, t), t))()
    # Rounding to 1e-7, of a target of unit size times its gain, and of x over alpha.
    room = 3e-6 * (1 + np.sqrt(of.x0_gain(t)) + 1 / np.maximum(process.alpha_sigma(t)[0], 0.03))
    assert (np.abs(found - x0).max((1, 2)) < room).all()


@pytest.mark.parametrize(("process", "target"), pairs(), ids=named)
def test_targets_noise_and_velocity_follow_from_each_other_and_errors_by_the_gain(process, target):
    of, rectified = (
        Parametrization(process, target, data_std=0.5),
        Parametrization(process, "velocity"),
    )

    @jax.jit
    def facts(x0, noise, t, error):
        x, value = diffuse(process, x0, noise, t), of.value(x0, noise, t)
        back = of.x0(value, x, t)
        moved = jnp.square(of.x0(value + error, x, t) - x0).sum((1, 2)) / jnp.square(error).sum(
            (1, 2)
        )
        both = velocity(process, x0, x, t), rectified.value(x0, noise, t)
        return back, compute_noise(process, back, x, t), both, moved, of.x0_gain(t)

    with jax.enable_x64(True):
        x0, noise, t = (jnp.asarray(a, jnp.float64) for a in drawn(process))
        error = jnp.asarray(np.random.default_rng(0).normal(size=x0.shape))
        back, same_noise, (found, expected), moved, gain = facts(
            x0, noise, jnp.clip(t, 0.001, 0.999), error
        )
    np.testing.assert_allclose(back, x0, atol=1e-9)
    np.testing.assert_allclose(same_noise, noise, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-6)
    np.testing.assert_allclose(moved, gain, rtol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=named)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_weighting_is_the_same_loss_of_x0_for_every_target(process, weighting):
    targets = [t for t in TARGETS if not (isinstance(process, Straight) and t == "noise")]

    @jax.jit
    def on_x0(t):
        each = [Parametrization(process, target, 0.5) for target in targets]
        return [of.weight(t, weighting) / of.x0_gain(t) for of in each]

    with jax.enable_x64(True):
        weights = np.asarray(on_x0(jnp.linspace(0.01, 0.99, 21)))
    assert (weights > 0).all()
    np.testing.assert_allclose(
        weights[1:], np.broadcast_to(weights[:1], weights[1:].shape), rtol=1e-9
    )


def test_a_simple_weight_is_one_on_the_targets_own_error():
    assert (Parametrization(VPLinear(), "v").weight(jnp.linspace(0.01, 1, 5), "simple") == 1).all()


def test_min_snr_weighs_as_its_paper_says():
    t = jnp.linspace(0.05, 0.95, 10)
    alpha, sigma = VPCosine().alpha_sigma(t)
    snr = np.asarray(jnp.square(alpha / sigma), np.float64)
    for target, divisor in (("x0", 1), ("noise", snr), ("v", snr + 1)):
        weight = Parametrization(VPCosine(), target).weight(t, "min_snr", gamma=3.0)
        np.testing.assert_allclose(weight, np.minimum(snr, 3) / divisor, rtol=1e-5)


def test_likelihood_weighs_the_noise_by_half_the_slope_of_the_log_snr():
    t = jnp.linspace(0.05, 0.95, 10)
    of = Parametrization(VPLinear(), "noise")
    _, sigma = VPLinear().alpha_sigma(t)
    slope = (0.1 + 19.9 * t) / sigma**2  # of gamma = -log SNR
    np.testing.assert_allclose(of.weight(t, "likelihood"), 0.5 * slope * (1 - 1e-3), rtol=1e-4)


def test_likelihood_is_one_integral_however_times_are_drawn():
    """For data of variance 1, E|x0 - D|^2 = 1 / (1 + SNR): the integral of -1/2 dSNR/dt of it
    is a half log ratio.
    """
    for process in (VPLinear(), VPCosine(), EDM(sigma_min=0.05, sigma_max=10, std=2.0)):
        t = process.draw_times(jax.random.key(0), 8192)
        alpha, sigma = process.alpha_sigma(t)
        error = sigma**2 / (alpha**2 + sigma**2)
        found = (Parametrization(process, "x0").weight(t, "likelihood") * error).mean()
        (a0, s0), (a1, s1) = (process.alpha_sigma(jnp.asarray(end)) for end in (process.t_min, 1.0))
        expected = 0.5 * (np.log1p((a0 / s0) ** 2) - np.log1p((a1 / s1) ** 2))
        np.testing.assert_allclose(found, expected, rtol=0.01)


def test_v_with_edm_is_its_preconditioning():
    s, process = 0.5, EDM()
    x0, noise, t = drawn(process)
    of = Parametrization(process, "v", data_std=s)
    _, sigma = process.alpha_sigma(t[:, None, None])
    x = x0 + sigma * noise
    c_skip, c_out = s**2 / (sigma**2 + s**2), sigma * s / jnp.sqrt(sigma**2 + s**2)
    f = jax.random.normal(jax.random.key(2), x.shape)
    np.testing.assert_allclose(of.x0(-f, x, t), c_skip * x + c_out * f, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        of.value(x0, noise, t), -(x0 - c_skip * x) / c_out, rtol=1e-3, atol=2e-3
    )
    np.testing.assert_allclose(of.weight(t, "edm"), 1, rtol=1e-5)  # lambda c_out^2


def test_v_of_unit_data_is_that_of_progressive_distillation():
    x0, noise, t = drawn(VPCosine())
    alpha, sigma = VPCosine().alpha_sigma(t[:, None, None])
    found = Parametrization(VPCosine(), "v").value(x0, noise, t)
    np.testing.assert_allclose(found, alpha * noise - sigma * x0, atol=1e-6)


def test_a_straight_process_has_the_velocity_of_rectified_flow():
    x0, noise, t = drawn(Straight())
    of = Parametrization(Straight(), "velocity")
    np.testing.assert_allclose(of.value(x0, noise, t), noise - x0, rtol=1e-6)
    x = diffuse(Straight(), x0, noise, t)
    np.testing.assert_allclose(
        of.x0(noise - x0, x, t), x - t[:, None, None] * (noise - x0), atol=1e-6
    )
    np.testing.assert_allclose(of.x0_gain(t), t**2, rtol=1e-5)


@pytest.mark.parametrize("target", ["x0", "v", "velocity"])
def test_at_the_end_of_a_straight_process_all_is_finite(target):
    of = Parametrization(Straight(), target, 0.5)
    noise = jnp.asarray([[0.3, -2.0]])
    assert np.isfinite(of.x0(noise, noise, jnp.ones(()))).all()
    assert np.isfinite(of.x0_gain(jnp.ones(1))).all()
    for weighting in ("simple", *WEIGHTINGS):
        assert np.isfinite(of.weight(jnp.ones(1), weighting)).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VPLinear(0.0, 1.0), "beta_min must be above 0"),
        (lambda: VPLinear(2.0, 1.0), "beta_max must be at least 2.0"),
        (lambda: VPLinear(t_min=0.0), "t_min must be > 0 and < 1"),
        (lambda: Straight(t_min=1.0), "t_min must be > 0 and < 1"),
        (lambda: VPCosine(logsnr_max=0.0), "logsnr_max must be above 0"),
        (lambda: EDM(sigma_min=0.0), "sigma_min must be above 0"),
        (lambda: EDM(std=0.0), "std must be above 0"),
        (
            lambda: Parametrization(VPCosine(), "vv"),
            "target must be one of 'noise', 'x0', 'v', 'velocity'",
        ),
        (lambda: Parametrization(VPCosine(), data_std=0.0), "data_std must be above 0"),
        (lambda: Parametrization(Straight(), "noise"), "target must not be"),
        (
            lambda: Parametrization(VPCosine()).weight(jnp.ones(1), "min-snr"),
            "did you mean 'min_snr'",
        ),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
