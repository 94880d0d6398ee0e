"""The histogram KL: numbers by hand, the floor between two draws, and what it refuses."""

import numpy as np
import pytest

from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.likelihood.histogram import HistogramKL, compute_kl
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.diffusion.flow_map import FlowMap, Jumps
from genjax.families.vae import VAE
from genjax.nets.residual_mlp import ResidualMLP
from genjax.samplers import Adaptive, Euler
from genjax.samplers.options import set_steps

POINTS = Spec("points", (2,), np.zeros(2, np.float32))
NET = ResidualMLP(8, 1, 8)


def test_the_divergence_of_two_bins_is_that_by_hand():
    p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    np.testing.assert_allclose(compute_kl(p, q), 0.5 * np.log(0.5 / 0.25 * 0.5 / 0.75), rtol=1e-6)
    missing = compute_kl(p, np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(missing, 0.5 * np.log(0.5) + 0.5 * np.log(0.5e8), rtol=1e-6)


def test_points_are_counted_in_their_bins_and_those_outside_are_not():
    judge = HistogramKL(bins=2, limit=1.0)
    points = np.array([[-0.5, -0.5], [-0.5, 0.5], [-0.1, 0.9], [0.5, 0.5], [3.0, 0.0]])
    np.testing.assert_allclose(judge.count(points), [[0.25, 0.5], [0.0, 0.25]])
    with pytest.raises(UserError) as error:
        judge.count(points[-1:])
    assert error.value.field == "limit"


def test_two_draws_are_as_far_apart_as_their_numbers_say():
    rng, judge = np.random.default_rng(0), HistogramKL(bins=20, limit=1.0)
    a, b = (judge.count(rng.uniform(-1, 1, (n, 2))) for n in (40_000, 80_000))
    np.testing.assert_allclose(compute_kl(a, b), 400 / 2 * (1 / 40_000 + 1 / 80_000), rtol=0.3)


def test_what_it_cannot_judge_is_refused():
    judge = HistogramKL()
    judge.check(FlowMap(NET), POINTS, {})
    judge.check(Diffusion(NET, sampler=Denoising(Euler(3))), POINTS, {})
    image = Spec("image", (4, 4, 1), np.zeros((4, 4, 1), np.float32))
    for family, spec in (
        (VAE(), POINTS),
        (FlowMap(NET), image),
        (Diffusion(NET, sampler=Denoising(Adaptive())), POINTS),
    ):
        with pytest.raises(UserError):
            judge.check(family, spec, {})
    with pytest.raises(UserError) as error:
        HistogramKL(steps=(2, 1))
    assert error.value.field == "steps"


def test_steps_are_set_where_the_sampler_has_them():
    assert set_steps(Jumps(1, label=3), 4) == Jumps(4, label=3)
    assert set_steps(Denoising(Euler(9), clip=True), 4) == Denoising(Euler(4), clip=True)
    with pytest.raises(UserError) as error:
        set_steps(Denoising(Adaptive()), 4)
    assert error.value.field == "steps"
