"""Deterministic solvers against the exact flow of Gaussian data, and against other libraries'
steps.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.samplers import DDIM, DDPM, Adaptive, Ancestral, DPMSolver, Euler, Heun
from genjax.samplers.diffusion.adaptive import solve
from genjax.samplers.diffusion.processes import (
    EDM,
    Process,
    Straight,
    VPCosine,
    VPLinear,
    compute_noise,
    velocity,
)
from tests.samplers.exact import Gaussian

DATA = Gaussian()
PROCESSES = [VPLinear(), VPCosine(), EDM(sigma_min=1e-4, sigma_max=20.0), Straight()]


def first(process, n=8, seed=0):
    """x_1 [n, 3]."""
    _, sigma = process.alpha_sigma(jnp.ones(()))
    return sigma * jax.random.normal(jax.random.key(seed), (n, 3))


def together(samplers, process, x, data=DATA):
    """Samples of each, compiled at once."""
    denoise = data.denoise(process)
    return jax.jit(lambda x, key: [sampler(denoise, process, x, key) for sampler in samplers])(
        x, jax.random.key(0)
    )


def sampled(sampler, process, x, data=DATA, key=0):
    return jax.jit(lambda x, key: sampler(data.denoise(process), process, x, key))(
        x, jax.random.key(key)
    )


class EvenLogSNR(Process):
    """A variance-preserving process whose grid is even in log-SNR."""

    def alpha_sigma(self, t):
        log_snr = 12 - 20 * t
        return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))

    def grid(self, n):
        return jnp.linspace(1.0, 0.0, n)


WIDE_COSINE, WIDE_EDM = VPCosine(logsnr_max=20.0), EDM(sigma_min=1e-4, sigma_max=20.0)


@pytest.mark.parametrize(
    ("sampler", "expected", "process"),
    [
        *[(Euler, 1, WIDE_EDM), (Euler, 1, Straight())],
        *[(Heun, 2, process) for process in (WIDE_COSINE, WIDE_EDM, Straight())],
        *[(DPMSolver, 2, process) for process in (EvenLogSNR(), WIDE_EDM)],
    ],
)
def test_solvers_converge_at_their_order(sampler, expected, process):
    """The slope of log error over log steps."""
    with jax.enable_x64(True):
        x = first(process).astype(jnp.float64)
        exact = DATA.flow(process, x)
        rough, fine = (
            np.sqrt(np.square(sampled(sampler(n), process, x) - exact).mean()) for n in (64, 128)
        )
    assert abs(np.log2(rough / fine) - expected) < 0.25


def test_ten_heun_steps_come_nearer_than_twenty_of_euler():
    x = first(Straight())
    exact = DATA.flow(Straight(), x)
    heun, euler = (abs(sampled(s, Straight(), x) - exact).max() for s in (Heun(10), Euler(20)))
    assert heun < 0.5 * euler


def test_a_straight_step_follows_the_velocity():
    process, x = Straight(), first(Straight())
    expected, t = x, process.grid(5)
    for now, after in zip(t, [*t[1:], 0.0], strict=True):
        expected = expected + (after - now) * velocity(
            process, DATA.denoise(process)(expected, now), expected, now
        )
    np.testing.assert_allclose(sampled(Euler(5), process, x), expected, atol=1e-5)


def test_straight_heun_steps_take_the_mean_velocity():
    process, x = Straight(), first(Straight())

    def field(x, t):
        return velocity(process, DATA.denoise(process)(x, t), x, t)

    expected, t = x, process.grid(5)
    for now, after in itertools.pairwise(t):
        slope = field(expected, now)
        slope = 0.5 * (slope + field(expected + (after - now) * slope, after))
        expected = expected + (after - now) * slope
    expected = DATA.denoise(process)(expected, t[-1])
    np.testing.assert_allclose(sampled(Heun(5), process, x), expected, atol=1e-5)


def test_heun_with_edm_is_the_algorithm_of_its_paper():
    process = EDM()
    denoise, x = DATA.denoise(process), np.asarray(first(process), np.float64)
    t = process.grid(6)
    sigmas = [float(s) for s in process.alpha_sigma(t)[1]] + [0.0]
    expected = x
    for i in range(6):
        slope = (expected - denoise(expected, t[i])) / sigmas[i]
        ahead = expected + (sigmas[i + 1] - sigmas[i]) * slope
        if sigmas[i + 1]:
            slope = 0.5 * (slope + (ahead - denoise(ahead, t[i + 1])) / sigmas[i + 1])
            ahead = expected + (sigmas[i + 1] - sigmas[i]) * slope
        expected = ahead
    np.testing.assert_allclose(
        sampled(Heun(6), process, jnp.asarray(x, jnp.float32)), expected, atol=1e-4
    )


@pytest.mark.parametrize("process", [VPLinear(), Straight()], ids=repr)
def test_one_step_is_the_posterior_mean(process):
    x = first(process)
    expected = DATA.denoise(process)(x, jnp.ones(()))
    samplers = (Euler(1), Heun(1), DPMSolver(1), DDIM(1, eta=0.7), DDPM(1, "large"))
    for sample in together(samplers, process, x):
        np.testing.assert_allclose(sample, expected, rtol=1e-5, atol=1e-5)


def test_euler_and_ddim_without_noise_are_one():
    for process in (VPLinear(), Straight()):
        np.testing.assert_allclose(
            *together((Euler(7), DDIM(7)), process, first(process)), atol=1e-6
        )


@pytest.mark.parametrize(
    ("sampler", "traces"), [(Euler(9), 1), (DPMSolver(9), 1), (DDPM(9), 1), (Heun(9), 2)]
)
def test_the_network_is_traced_as_few_times_as_can_be(sampler, traces):
    count = []

    def denoise(x, t):
        assert t.shape == ()
        count.append(1)
        return 0.5 * x

    jax.jit(lambda x, key: sampler(denoise, VPCosine(), x, key)).lower(
        first(VPCosine()), jax.random.key(0)
    )
    assert len(count) == traces


def test_heun_evaluates_twice_a_step_but_once_in_the_last():
    count = []

    def denoise(x, t):
        jax.debug.callback(lambda: count.append(1))
        return 0.5 * x

    jax.block_until_ready(
        jax.jit(lambda x, key: Heun(6)(denoise, VPCosine(), x, key))(
            first(VPCosine()), jax.random.key(0)
        )
    )
    jax.effects_barrier()
    assert len(count) == 11


class Half:
    def denoise(self, process):
        return lambda x, t: DATA.denoise(process)(x, t).astype(jnp.bfloat16)


def test_a_network_of_half_precision_leaves_samples_in_single():
    samplers, x = (Euler(4), Heun(4), DPMSolver(4), DDPM(4)), first(Straight())
    whole = together(samplers, Straight(), x)
    for half, expected in zip(together(samplers, Straight(), x, Half()), whole, strict=True):
        assert half.dtype == jnp.float32
        np.testing.assert_allclose(half, expected, atol=0.05)


def test_samples_do_not_depend_on_the_key_of_deterministic_solvers():
    x = first(VPCosine())
    for sampler in (Euler(3), Heun(3), DPMSolver(3), DDIM(3), Adaptive()):
        assert not sampler.stochastic
    np.testing.assert_array_equal(*(sampled(Heun(3), VPCosine(), x, key=k) for k in (0, 1)))


@pytest.mark.parametrize("process", [VPLinear(), EDM(), Straight()], ids=repr)
def test_the_adaptive_solver_follows_the_exact_flow_and_jumps(process):
    # The jump misses by (sigma / (alpha std))^2 / 2: 1e-3 of an entry of standard deviation 0.2
    # with VPLinear.
    x = first(process)
    near = jnp.asarray(DATA.flow(process, x, end=process.t_min), jnp.float32)
    expected = DATA.denoise(process)(near, jnp.asarray(process.t_min))
    found = sampled(Adaptive(), process, x)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found, DATA.flow(process, x), atol=1e-3)


def test_an_example_keeps_to_the_tolerance_among_easy_ones():
    """Rows at rest change nothing for the one that moves, however many they are."""

    def end(moving):  # [B, 1]
        return solve(
            lambda t, y: moving * jnp.cos(20 * t),
            jnp.zeros_like(moving),
            0.0,
            1.0,
            1e-3,
            1e-3,
            1000,
        )

    among, alone = end(jnp.zeros((400, 1)).at[0].set(20.0)), end(jnp.full((1, 1), 20.0))
    np.testing.assert_allclose(among[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(alone[0], np.sin(20), atol=0.01)


def test_too_few_steps_of_the_adaptive_solver_give_nan():
    assert np.isnan(sampled(Adaptive(max_steps=3), VPCosine(), first(VPCosine()))).all()


# Peers: the same steps by the scheduler of Hugging Face's diffusers, at the same levels of noise.


def scheduler(name, **options):
    """A scheduler of diffusers with the alphas of ``VPLinear`` at t = 1/1000, 2/1000, ..., and
    10 steps.
    """
    reason = "the reference implementation, diffusers on torch, is not installed"
    pytest.importorskip("torch", reason=reason)
    diffusers = pytest.importorskip("diffusers", reason=reason)
    alpha = np.append(1.0, VPLinear().alpha_sigma(jnp.arange(1, 1001) / 1000)[0])
    betas = 1 - (alpha[1:] / alpha[:-1]) ** 2
    made = getattr(diffusers, name)(trained_betas=betas, timestep_spacing="trailing", **options)
    made.set_timesteps(10)
    return made


def prescribed(monkeypatch, module, key, shape):
    """Have a scheduler draw the noise that our sampler draws."""
    import torch

    # None in the last of ten steps, to the clean data, where the scheduler asks for some but ours
    # never adds any.
    noise = iter(
        [
            np.array(jax.random.normal(jax.random.fold_in(key, i), shape)) * (i < 9)
            for i in range(10)
        ]
    )
    monkeypatch.setattr(
        f"diffusers.schedulers.{module}.randn_tensor",
        lambda *_, **__: torch.from_numpy(next(noise)),
    )


@jax.jit
def noise_prediction(x, t):
    return compute_noise(VPLinear(), DATA.denoise(VPLinear())(x, t), x, t)


def by_scheduler(made, x, scale=False, **options):
    """Sample with noise predictions of the exact denoiser; ``scale`` for schedulers over x /
    alpha.
    """
    import torch

    process = VPLinear()
    x = torch.from_numpy(np.array(x))
    if scale:
        alpha, sigma = (float(a) for a in process.alpha_sigma(jnp.ones(())))
        np.testing.assert_allclose(made.sigmas[0], sigma / alpha, rtol=1e-3)
        x = x / alpha
    for step in made.timesteps:
        t = (jnp.asarray(float(step)) + 1) / 1000
        scaled = jnp.asarray((made.scale_model_input(x, step) if scale else x).numpy())
        noise = noise_prediction(scaled, t)
        x = made.step(torch.from_numpy(np.array(noise)), step, x, **options).prev_sample
    return x.numpy()


def test_ddim_equals_diffusers(monkeypatch):
    x, key = first(VPLinear()), jax.random.key(0)
    made = scheduler("DDIMScheduler", clip_sample=False, set_alpha_to_one=True)
    np.testing.assert_allclose(sampled(DDIM(10), VPLinear(), x), by_scheduler(made, x), atol=1e-4)
    prescribed(monkeypatch, "scheduling_ddim", key, x.shape)
    found = sampled(DDIM(10, eta=0.6), VPLinear(), x)
    np.testing.assert_allclose(found, by_scheduler(made, x, eta=0.6), atol=1e-4)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_equals_diffusers(variance, monkeypatch):
    x, key = first(VPLinear()), jax.random.key(0)
    made = scheduler("DDPMScheduler", clip_sample=False, variance_type=f"fixed_{variance}")
    prescribed(monkeypatch, "scheduling_ddpm", key, x.shape)
    np.testing.assert_allclose(
        sampled(DDPM(10, variance), VPLinear(), x), by_scheduler(made, x), atol=1e-4
    )


def test_dpm_solver_equals_diffusers():
    made = scheduler("DPMSolverMultistepScheduler", final_sigmas_type="zero")
    x = first(VPLinear())
    np.testing.assert_allclose(
        sampled(DPMSolver(10), VPLinear(), x), by_scheduler(made, x), atol=1e-4
    )


def test_euler_equals_diffusers():
    made = scheduler("EulerDiscreteScheduler", final_sigmas_type="zero")
    x = first(VPLinear())
    np.testing.assert_allclose(
        sampled(Euler(10), VPLinear(), x), by_scheduler(made, x, scale=True), atol=1e-4
    )


def test_ancestral_euler_equals_diffusers(monkeypatch):
    x, key = first(VPLinear()), jax.random.key(0)
    made = scheduler("EulerAncestralDiscreteScheduler")
    prescribed(monkeypatch, "scheduling_euler_ancestral_discrete", key, x.shape)
    np.testing.assert_allclose(
        sampled(Ancestral(10), VPLinear(), x), by_scheduler(made, x, scale=True), atol=1e-4
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Euler(0), "steps must be from 1 to 100000"),
        (lambda: DPMSolver(-1), "steps must be from 1 to 100000"),
        (lambda: Adaptive(rtol=-1.0), "rtol and atol must be"),
        (lambda: Adaptive(rtol=0.0, atol=0.0), "rtol and atol must be"),
        (lambda: Adaptive(max_steps=0), "max_steps must be from 1 to 1000000"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()
