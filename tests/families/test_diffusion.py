"""Diffusion: the loss is what the paper says, the bound tight where the truth is known, and a
stopped run goes on.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.data.dataset import Spec
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.experiment import Every, Experiment, Keep
from genjax.families.diffusion import bound as variational
from genjax.families.diffusion.applications import fill_in, log_prob
from genjax.families.diffusion.augment import NonLeaking
from genjax.families.diffusion.bound import Learned
from genjax.families.diffusion.conditioning import hide
from genjax.families.diffusion.couplings import Ring
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.family import init_state
from genjax.nets.conv.unet import UNet
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.runs.setup import initial_state, make_step
from genjax.samplers import DDIM, DDPM, Adaptive, Euler
from genjax.samplers.diffusion.processes import EDM, Straight, VPCosine, VPLinear, diffuse
from genjax.schedules import Constant
from tests import toy

KEY = jax.random.key(0)
POINTS = Spec("points", (2,), np.zeros(2, np.float32), classes=3)
IMAGES = Spec("image", (4, 4, 1), np.zeros((4, 4, 1), np.float32), classes=3, levels=17)
NET = ResidualMLP(8, 1, 8)
SMALL = Diffusion(NET, width=4)
LEARNED = Diffusion(NET, Learned(8), target="noise", weighting="likelihood", width=4)


def batch_of(n, spec=POINTS, seed=0):
    x = jax.random.uniform(jax.random.key(seed), (n, *spec.shape), minval=-1, maxval=1)
    if spec.levels:
        x = jnp.round((x + 1) * 8) / 8 - 1
    return {spec.entry: x, "mask": jnp.ones(n), "label": jnp.arange(n) % 3}


def state_of(family, spec=POINTS, moved=True):
    """A state whose network does not give zeros."""
    params, variables = jax.jit(lambda: family.init(KEY, batch_of(1, spec), spec))()
    if moved:
        leaves, structure = jax.tree.flatten(params["net"])
        keys = jax.random.split(jax.random.key(1), len(leaves))
        leaves = [
            p + 0.3 * jax.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=True)
        ]
        params = params | {"net": jax.tree.unflatten(structure, leaves)}
    return init_state(params, variables, Adam().build(10), KEY)


@pytest.mark.parametrize(
    ("process", "target", "weighting", "data_std"),
    [
        (VPCosine(), "noise", "simple", 1.0),
        (VPLinear(), "x0", "min_snr", 1.0),
        (EDM(), "v", "edm", 0.5),
        (Straight(), "velocity", "simple", 1.0),
    ],
)
@pytest.mark.long
def test_the_loss_is_the_weighted_squared_error_of_the_target(process, target, weighting, data_std):
    family = replace(SMALL, process=process, target=target, weighting=weighting, data_std=data_std)
    state, x0 = state_of(family), batch_of(6)["points"]
    loss = family.compute_terms(state.params, state.variables, x0, None, KEY)["loss"]

    keys = jax.random.split(KEY, 6)
    noise, t = jax.random.normal(keys[0], x0.shape), process.draw_times(keys[4], 6)
    x = diffuse(process, x0, noise, t)
    alpha, sigma = (a[:, None] for a in process.alpha_sigma(t))
    seen = x / jnp.sqrt(alpha**2 * data_std**2 + sigma**2) if target == "v" else x
    module = family._make_module((2,), 0)
    output = module.apply({"params": state.params["net"]}, seen, t, train=False)
    error = jnp.square(output - family.make_parametrization({}).value(x0, noise, t)).mean(-1)
    np.testing.assert_allclose(
        loss, family.make_parametrization({}).weight(t, weighting) * error, rtol=1e-4
    )


@dataclass(frozen=True)
class Exact(Diffusion):
    """The posterior mean of N(0, std^2) data instead of a network's."""

    std: float = 0.7

    def predict(self, params: Any, x: Any, t: Any, told: Any, key: Any = None) -> Any:
        alpha, sigma = (a.reshape(-1, *[1] * (x.ndim - 1)) for a in self.process.alpha_sigma(t))
        x0 = alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2) * x
        return (x - alpha * x0) / sigma


EXACT = Exact(NET, VPCosine(14.0), target="noise", weighting="likelihood", width=4)


def test_the_bound_of_the_exact_model_is_the_entropy_of_its_data():
    state = state_of(EXACT)
    x0 = EXACT.std * jax.random.normal(jax.random.key(5), (40_000, 2))
    terms = EXACT.compute_terms(state.params, state.variables, x0, None, KEY)
    entropy = 0.5 * math.log(2 * math.pi * math.e * EXACT.std**2)
    bits = np.asarray(terms["bits_per_dim"])
    assert abs(bits.mean() - entropy / math.log(2)) < 5 * bits.std() / math.sqrt(len(bits)) + 1e-3
    np.testing.assert_allclose(
        terms["loss"],
        terms["diffusion"] + terms["prior"] + terms["reconstruction"],
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_ode_gives_the_exact_density_of_the_exact_model():
    state, x0 = state_of(EXACT), EXACT.std * jax.random.normal(jax.random.key(5), (16, 2))
    found = log_prob(EXACT, state, KEY, x0, None, 1e-5, 1e-5)
    exact = jax.scipy.stats.norm.logpdf(x0, 0, EXACT.std).sum(-1)
    np.testing.assert_allclose(found, exact, atol=5e-3)


def test_the_reconstruction_of_levels_is_their_probability_given_the_first_noisy_image():
    process, values = VPCosine(4.0), jnp.linspace(-1, 1, 5)
    x0, noise = values[jnp.asarray([[0, 2, 4]])], jnp.asarray([[0.3, -1.2, 0.7]])
    alpha, sigma = (float(a) for a in process.alpha_sigma(jnp.zeros(())))
    log_p = 0.0
    for x, e in zip(np.asarray(x0)[0], np.asarray(noise)[0], strict=True):
        density = np.exp(-0.5 * ((alpha * x + sigma * e - alpha * np.asarray(values)) / sigma) ** 2)
        log_p += np.log(density[np.argmin(np.abs(np.asarray(values) - x))] / density.sum())
    np.testing.assert_allclose(
        variational.reconstruction(process, x0, noise, values)[0], -log_p, rtol=1e-4
    )


@pytest.mark.long
def test_a_learned_schedule_gets_the_gradients_of_its_bound_and_of_its_variance():
    state, x0 = state_of(LEARNED), batch_of(8)["points"]

    def through(params, learned):
        return LEARNED.compute_terms(params, state.variables, x0, None, KEY, learned)["loss"]

    def diffusion(params):
        return LEARNED.compute_terms(params, state.variables, x0, None, KEY)["diffusion"]

    found = jax.grad(lambda p: through(p, True).mean())(state.params)
    plain = jax.grad(lambda p: through(p, False).mean())(state.params)
    values = diffusion(state.params)
    np.testing.assert_allclose(through(state.params, True), through(state.params, False), rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3),
        found["net"],
        plain["net"],
    )
    squared = jax.grad(lambda p: jnp.square(diffusion(p)).mean() / values.mean())(state.params)[
        "schedule"
    ]
    for name, gradient in found["schedule"].items():
        expected = (plain["schedule"] if name in variational.ENDS else squared)[name]
        np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=1e-3, err_msg=name)


@pytest.mark.long
def test_training_a_schedule_lowers_the_variance_of_the_loss():
    """Without a prediction the loss is gamma' |noise|^2 / 2: least uneven where gamma is a line."""
    family = replace(LEARNED, process=Learned(16, -12.0, 6.0))
    state = state_of(family, IMAGES, moved=False)
    step_like = {"weight": jnp.full(16, 16.0), "bias": jnp.full(16, -8.0), "mix": jnp.full(16, 3.0)}
    state = state.replace(params=state.params | {"schedule": state.params["schedule"] | step_like})
    batch, rule = batch_of(64, IMAGES), SGD(Constant(0.03), freeze=("net/",)).build(100)
    state = state.replace(opt_state=rule.init(state.params))
    step = jax.jit(functools.partial(family.train_step, optimizer=rule))

    def spread(state):
        terms = family.compute_terms(
            state.params, state.variables, batch["image"], None, jax.random.key(9)
        )
        return float(terms["diffusion"].std() / terms["diffusion"].mean())

    assert spread(state) > 1
    for _ in range(10):
        state, _ = step(state, batch)
    assert spread(state) < 1.5 * math.sqrt(
        2 / 16
    )  # little more than what |noise|^2 of 16 pixels varies by


def test_labels_are_hidden_at_the_rate_asked_for():
    dropped, text = hide(KEY, 0.25, jnp.zeros(4000, jnp.int32), 3, None)
    assert text is None
    assert set(np.unique(dropped)) == {0, 3}
    assert abs(float((dropped == 3).mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)


def test_guidance_extrapolates_from_the_unconditional_model_to_the_label():
    family = replace(SMALL, conditional=True)
    state, x, t = state_of(family), batch_of(4)["points"], jnp.float32(0.4)
    estimates = [
        family.denoise(state, 4, Denoising(guidance_scale=scale))(x, t) for scale in (0.0, 1.0, 3.0)
    ]
    np.testing.assert_allclose(
        estimates[2], estimates[0] + 3 * (estimates[1] - estimates[0]), rtol=1e-4, atol=1e-5
    )
    assert np.abs(estimates[0] - estimates[1]).max() > 1e-3
    other = family.denoise(state, 4, Denoising(guidance_scale=0.0, label=2))(x, t)
    np.testing.assert_array_equal(other, estimates[0])


@pytest.mark.long
def test_what_is_known_is_kept_exactly():
    family = replace(SMALL, net=UNet((4,), 1, (), 4), sampler=Denoising(DDIM(4), clip=True))
    state, image = state_of(family, IMAGES), batch_of(3, IMAGES)["image"]
    mask = jnp.zeros((1, 4, 4, 1)).at[:, :, :2].set(1.0)
    filled = fill_in(family, state, KEY, image, mask, family.sampler)
    np.testing.assert_array_equal(filled[:, :, :2], image[:, :, :2])
    assert np.abs(filled[:, :, 2:] - image[:, :, 2:]).max() > 1e-3
    with pytest.raises(UserError, match="does not fit an image"):
        fill_in(family, state, KEY, image, mask[:, :2], family.sampler)
    with pytest.raises(
        UserError, match=r"image must have the shape of the model's samples, \(4, 4, 1\),"
    ):
        fill_in(family, state, KEY, image[:, :2], mask, family.sampler)


def test_fourier_features_stand_beside_the_input():
    family = replace(SMALL, fourier=(1,))
    x = jnp.asarray([[0.25, -0.5]])
    np.testing.assert_allclose(family._featurise(x), [[0.25, -0.5, 1.0, 0.0, 0.0, -1.0]], atol=1e-6)
    state = state_of(family)
    assert family.predict(state.params, x, jnp.ones(1), {}).shape == (1, 2)


def test_a_flow_from_a_ring_samples_from_the_ring():
    family = replace(SMALL, process=Straight(), target="velocity", noise=Ring(), coupling="optimal")
    state = state_of(family, moved=False)  # of no velocity: samples stay where they start
    samples = family.sample(state, KEY, 64, Denoising(Euler(3)))
    assert abs(float(jnp.linalg.norm(samples, axis=-1).mean()) - 5) < 0.5


def trajectory(devices, family):
    layout = parallel.start(devices)
    experiment = Experiment(family, toy.Pictures(), SGD(Constant(0.05)), steps=20, batch_size=16)
    make = initial_state(experiment, IMAGES)
    state, step = (
        layout.init(make),
        layout.compile_step(make_step(experiment), layout.eval_shapes(make)),
    )
    found = []
    for number in range(20):
        batch = batch_of(16, IMAGES, number) | {"mask": jnp.ones(16).at[3].set(0)}
        state, packed = step(state, layout.place(batch))
        found.append(np.asarray(packed.pairs)[..., 0] / np.asarray(packed.pairs)[..., 1])
    return np.array(found)


@pytest.mark.long
@pytest.mark.parametrize(
    "family", [replace(SMALL, conditional=True), LEARNED], ids=["fixed", "learned"]
)
def test_eight_sharded_devices_equal_one(family):
    one, eight = (
        trajectory(d, family) for d in (Devices(count=1), Devices(count=8, mode="sharded", fsdp=2))
    )
    np.testing.assert_allclose(eight, one, rtol=2e-4, atol=1e-5)


def test_eight_mapped_devices_draw_for_their_own_rows_and_agree_in_distribution():
    one, eight = (trajectory(d, SMALL) for d in (Devices(count=1), Devices(count=8)))
    assert np.isfinite(eight).all()
    np.testing.assert_allclose(eight.mean(0)[0], one.mean(0)[0], rtol=0.5)
    assert not np.allclose(one, eight)


@pytest.mark.long
@pytest.mark.parametrize(
    "family",
    [
        Diffusion(
            UNet((4,), 1, (), 4, dropout=0.2), width=4, conditional=True, augment=NonLeaking(0.3)
        ),
        replace(LEARNED, net=UNet((4,), 1, (), 4)),
    ],
    ids=["conditional", "learned"],
)
def test_a_stopped_run_goes_on_bitwise(family, tmp_path):
    every = Every(log=2, evaluate=4, sample=0, checkpoint=2)
    whole = Experiment(
        family, Digits(), Adam(), steps=6, batch_size=16, ema=0.9, every=every, keep=Keep(best=None)
    )
    straight = genjax.train(whole, tmp_path / "whole", quiet=True)
    genjax.train(replace(whole, steps=2), tmp_path / "parts", quiet=True)
    resumed = genjax.train(whole, tmp_path / "parts", quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(
            jax.device_get((r.state.params, r.state.opt_state, r.state.ema))
            for r in (straight, resumed)
        ),
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"process": Straight(), "target": "noise"}, "target must not be"),
        ({"process": Learned()}, "needs target="),
        ({"coupling": "optimal", "sampler": Denoising(DDPM(10))}, "solver must be deterministic"),
        (
            {"noise": Ring(), "sampler": Denoising(DDIM(10, eta=1.0))},
            "solver must be deterministic",
        ),
        ({"noise": Ring(), "weighting": "likelihood"}, "needs NormalNoise"),
        ({"sampler": Denoising(guidance_scale=2.0)}, "guidance_scale must be 1"),
        (
            {"conditional": True, "drop_label": 0.0, "sampler": Denoising(guidance_scale=2.0)},
            "trained with drop_label",
        ),
        ({"drop_label": 1.0}, "drop_label"),
        ({"gamma": 0.0}, "gamma"),
        ({"width": 0}, "width"),
        ({"time_frequency": 0.1}, "time_frequency"),
        ({"weighting": "snr"}, "weighting"),
        ({"target": "eps"}, "target"),
        ({"coupling": "best"}, "coupling"),
        ({"data_std": 0.0}, "data_std"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_written_down(fields, words):
    with pytest.raises(UserError, match=words):
        replace(SMALL, **fields)


def test_what_does_not_fit_the_data_is_refused_before_training():
    unlabelled = replace(POINTS, classes=None)
    for family, spec, words in (
        (replace(SMALL, conditional=True), unlabelled, "needs labels"),
        (replace(SMALL, augment=NonLeaking(0.1)), POINTS, "square images"),
        (replace(SMALL, noise=Ring()), IMAGES, "needs data of shape"),
        (replace(SMALL, sampler=Denoising(clip=True)), POINTS, "sampler.clip must be False"),
    ):
        with pytest.raises(UserError, match=words):
            family.init(KEY, batch_of(1, spec), spec)
    with pytest.raises(UserError, match="no Mixup"):
        family = replace(SMALL, conditional=True)
        batch = batch_of(4) | {"other_label": jnp.zeros(4, jnp.int32)}
        family.train_step(state_of(family), batch, optimizer=Adam().build(10))


def test_what_a_sampler_is_asked_that_the_model_cannot_is_refused():
    state = state_of(SMALL)
    with pytest.raises(UserError, match="steps must be from 1 to 100000"):
        DDIM(0)
    with pytest.raises(UserError, match="guidance_scale must be at least 0"):
        Denoising(guidance_scale=-1.0)
    with pytest.raises(UserError, match="needs a class-conditional"):
        SMALL.sample(state, KEY, 4, Denoising(label=1))
    with pytest.raises(UserError, match="guidance_scale"):
        SMALL.sample(state, KEY, 4, Denoising(guidance_scale=2.0))
    family = replace(SMALL, conditional=True)
    with pytest.raises(UserError, match="from 0 to 2"):
        family.sample(state_of(family), KEY, 4, Denoising(label=3))
    flow = replace(SMALL, noise=Ring(), process=Straight(), target="velocity")
    with pytest.raises(UserError, match="with this noise"):
        flow.sample(state_of(flow), KEY, 4, Denoising(DDPM(10)))
    with pytest.raises(UserError, match="family.noise must be Gaussian"):
        log_prob(flow, state_of(flow), KEY, batch_of(2)["points"], None, 1e-3, 1e-3)
    assert family.sample(
        state_of(family), KEY, 4, Denoising(Adaptive(1e-2, 1e-2), label=1)
    ).shape == (4, 2)
