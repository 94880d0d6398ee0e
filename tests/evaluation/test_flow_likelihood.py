"""Likelihoods through the ODE against closed forms: of a density, and of raw pixels in bits."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from genjax import parallel
from genjax.data.codecs import ImageCodec, PointsCodec
from genjax.data.dataset import Spec
from genjax.data.sources import Digits, Points
from genjax.data.splits import Arrays
from genjax.errors import UserError
from genjax.evaluation.judge import Model, Subject
from genjax.evaluation.likelihood.flow import FlowLikelihood
from genjax.families.diffusion import applications
from genjax.families.diffusion.couplings import Ring
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.vae import VAE
from genjax.family import State
from genjax.nets.mlp import MLPCoder
from genjax.nets.residual_mlp import ResidualMLP
from genjax.parallel import Devices
from genjax.samplers.diffusion.processes import EDM, VPLinear
from tests import toy
from tests.evaluation.test_judge import subject
from tests.samplers.exact import Gaussian


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


@dataclass(frozen=True)
class Normals(Diffusion):
    """The posterior mean of data whose last axis is independent normals."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def denoise(self, state, n, options):
        estimate = Gaussian(self.mean, self.std).denoise(self.process)
        return lambda x, t: estimate(x.reshape(-1, len(self.mean)), t).reshape(x.shape)


def on_normals(layout, entry, raw, codec, mean, std):
    """A subject whose family knows the law, with held-out examples."""
    shape = raw.shape[1:]
    spec = Spec(entry, shape, np.zeros(shape, np.float32), levels=codec.levels)
    state = State(
        jnp.zeros((), jnp.int32), {}, None, {"mean": jnp.zeros(shape)}, None, jax.random.key(0)
    )
    family = Normals(process=EDM(), mean=mean, std=std)
    splits = {"test": Arrays(entry, raw, None, codec)}
    return Subject(
        Model(family, state, spec, codec, "step 0"), splits, "test", jax.random.key(1), layout, 16
    )


def test_a_density_of_points_is_in_nats_of_model_space(layout):
    mean, std = (0.5, -0.2, 0.1), (0.5, 1.0, 0.2)
    raw = np.random.default_rng(0).normal(mean, std, (70, 3)).astype(np.float32)
    on = on_normals(layout, "points", raw, PointsCodec(3), mean, std)
    found = FlowLikelihood(examples=64, probes=None, batch=30)(on)  # its last batch is padded
    nll = -norm.logpdf(raw[np.arange(64) * 70 // 64], mean, std).sum(-1)
    np.testing.assert_allclose(found.numbers["ode_nll"], nll.mean(), atol=2e-3)
    np.testing.assert_allclose(found.numbers["ode_nll_error"], nll.std(ddof=1) / 8, rtol=1e-2)
    for name in ("", "_error"):
        in_bits = found.numbers[f"ode_nll{name}"] / (3 * np.log(2))
        np.testing.assert_allclose(found.numbers[f"ode_bits_per_dim{name}"], in_bits, rtol=1e-12)
    assert found.protocol == (
        "probability-flow ODE, rtol 0.0001, atol 0.0001, exact divergence; density in model space; "
        "64 examples of test"
    )


def test_bits_of_raw_pixels_are_those_of_the_dequantised_gaussian(layout):
    """Of four coarse levels the bound and the truth, and a cell beside the level, are far apart."""
    levels, mean, std = 4, 0.1, 0.6
    width = 2 / (levels - 1)
    raw = np.random.default_rng(0).integers(levels, size=(200, 4, 4, 1)).astype(np.uint8)
    on = on_normals(layout, "image", raw, ImageCodec(4, 4, 1, levels), (mean,), (std,))
    judged = FlowLikelihood(examples=200, batch=100)(on)
    assert (
        "1 Hutchinson probe(s) an example; upper bound for raw values of 4 levels, uniform deq"
        in judged.protocol
    )
    found = judged.numbers
    x = raw * width - 1.0
    # The mean over the even law on [x - w / 2, x + w / 2] of -log N(x'; mean, std), less log w.
    bound = (
        0.5 * np.log(2 * np.pi * std**2)
        + ((x - mean) ** 2 + width**2 / 12) / (2 * std**2)
        - np.log(width)
    )
    # That of a pixel spreads about it by what x' is drawn.
    spread = np.sqrt(((x - mean) ** 2 * width**2 / 12 + width**4 / 720) / std**4).mean() / np.sqrt(
        200 * 16
    )
    margin = (4 * spread + 5e-4) / np.log(2)
    np.testing.assert_allclose(found["ode_bits_per_dim"], bound.mean() / np.log(2), atol=margin)
    truth = -np.log2(norm.cdf(x + width / 2, mean, std) - norm.cdf(x - width / 2, mean, std)).mean()
    assert truth + margin < found["ode_bits_per_dim"] < truth + 0.2
    np.testing.assert_allclose(
        found["ode_nll"], found["ode_bits_per_dim"] * 16 * np.log(2), rtol=1e-12
    )
    assert (
        0.3
        < found["ode_bits_per_dim_error"]
        / (bound.sum((1, 2, 3)).std() / 16 / np.log(2) / np.sqrt(200))
        < 1.5
    )


def test_a_fine_density_in_pixels_of_256_levels_has_log2_of_its_deviation_in_levels(layout):
    """A normal of s levels has log2(s sqrt(2 pi e)) bits."""
    levels_wide, count = 20.0, 400
    value = np.random.default_rng(0).normal(127.5, levels_wide, (count, 4, 4, 1))
    raw = np.rint(value).clip(0, 255).astype(np.uint8)
    on = on_normals(layout, "image", raw, ImageCodec(4, 4, 1), (0.0,), (levels_wide / 127.5,))
    found = FlowLikelihood(examples=count, batch=200)(on).numbers
    expected = np.log2(levels_wide * np.sqrt(2 * np.pi * np.e))
    assert (
        abs(found["ode_bits_per_dim"] - expected) < 4 * found["ode_bits_per_dim_error"] + 1e-3 < 0.1
    )


@pytest.fixture(scope="module")
def untrained(layout):
    """A small network on digits, class-conditional, at step 0."""
    family = Diffusion(ResidualMLP(8, 1, 8), process=VPLinear(), width=16, conditional=True)
    return subject(layout, toy.experiment(family=family, data=Digits()))


def test_a_network_has_a_likelihood_and_that_of_a_conditional_one_is_the_unconditional(untrained):
    found = FlowLikelihood(examples=4, batch=2, rtol=1e-2, atol=1e-2)(untrained)
    assert (
        all(np.isfinite(value) for value in found.numbers.values())
        and found.numbers["ode_bits_per_dim"] > 0
    )
    assert (
        "1 Hutchinson probe(s) an example; upper bound for raw values of 17 levels"
        in found.protocol
    )
    assert found.protocol.endswith("4 examples of test; the unconditional model")


def test_a_density_that_cannot_be_had_is_refused(layout, monkeypatch):
    raw = np.zeros((4, 1), np.float32)
    on = on_normals(layout, "points", raw, PointsCodec(1), (0.0,), (1.0,))
    few = functools.partial(applications.log_density, max_steps=3)
    monkeypatch.setattr(applications, "log_density", few)
    with pytest.raises(
        UserError, match="FlowLikelihood has no density for 4 of 4 examples: either the"
    ):
        FlowLikelihood(examples=4, batch=4, rtol=1e-6, atol=1e-6)(on)


def test_what_has_no_ode_density_is_refused_before_the_first_step():
    images, points = Digits().open().spec, Points(size=10, test_size=5).open().spec
    evaluator = FlowLikelihood()
    for spec in (images, points):
        evaluator.check(Diffusion(), spec, {})
        evaluator.check(Diffusion(conditional=True), spec, {})
    assert not evaluator.while_training
    with pytest.raises(UserError, match="FlowLikelihood needs a Diffusion, got a VAE"):
        evaluator.check(VAE(2, MLPCoder((4,))), images, {})
    with pytest.raises(UserError, match="drop_label must be > 0"):
        evaluator.check(Diffusion(conditional=True, drop_label=0.0), images, {})
    with pytest.raises(UserError, match="noise must be Gaussian"):
        evaluator.check(Diffusion(noise=Ring()), points, {})
    for wrong in ({"examples": 1}, {"batch": 0}, {"probes": 0}):
        with pytest.raises(UserError, match=f"^{next(iter(wrong))} must be"):
            FlowLikelihood(**wrong)
    for wrong in ({"rtol": -1.0}, {"rtol": 0.0, "atol": 0.0}, {"atol": float("nan")}):
        with pytest.raises(UserError, match="[ar]tol"):
            FlowLikelihood(**wrong)
