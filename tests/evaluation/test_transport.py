"""The Wasserstein distance: closed forms, an exhaustive search, and a diffusion judged by two
solvers.
"""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

import genjax
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.likelihood.transport import TransportDistance, compute_squared_w2
from genjax.experiment import Every, Experiment, Keep
from genjax.families.diffusion.couplings import Ring
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.nets.residual_mlp import ResidualMLP
from genjax.samplers import Adaptive, Euler, Heun
from genjax.samplers.diffusion.processes import Straight

FLOW = Diffusion(
    ResidualMLP(8, 1, 8), Straight(), "velocity", width=4, noise=Ring(), sampler=Denoising(Euler(2))
)


def test_the_pairing_is_the_best_of_all():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    best = min(
        np.square(a - b[list(order)]).sum(-1).mean() for order in itertools.permutations(range(6))
    )
    np.testing.assert_allclose(compute_squared_w2(a, b), best)


def test_shifted_points_are_as_far_as_the_shift():
    a = np.random.default_rng(0).normal(size=(200, 3))
    np.testing.assert_allclose(compute_squared_w2(a, a[::-1] + np.array([3.0, 0.0, 4.0])), 25.0)


def test_on_the_line_sorted_points_are_paired():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(300, 1)), 2 * rng.normal(size=(300, 1)) + 1
    np.testing.assert_allclose(
        compute_squared_w2(a, b), np.square(np.sort(a, 0) - np.sort(b, 0)).mean()
    )


@pytest.mark.long
def test_a_flow_that_stands_still_is_as_far_as_its_ring(tmp_path):
    """An untrained flow's output is 0: its samples are the ring's, whatever the solver."""
    every = Every(log=1, evaluate=0, sample=0, checkpoint=1)
    data = Points("eight_gaussians", 64, 200)
    judge = TransportDistance((Euler(1), Adaptive(1e-2, 1e-2)), samples=200)
    experiment = Experiment(
        FLOW, data, steps=1, batch_size=16, every=every, keep=Keep(best=None), evaluators=(judge,)
    )
    run = genjax.train(experiment, tmp_path / "run", quiet=True)
    run = replace(
        run, state=run.state.replace(params=jax.tree.map(np.zeros_like, run.state.params))
    )
    numbers = run.evaluate().numbers
    assert {"w2_squared_euler_1", "w2_squared_adaptive"} <= set(numbers)
    np.testing.assert_allclose(
        numbers["w2_squared_euler_1"], numbers["w2_squared_adaptive"], rtol=1e-2
    )
    # From a ring of radius 2 to one of radius 5 with Gaussians of 0.56: 9 and what the width adds.
    assert 8.5 < numbers["w2_squared_euler_1"] < 11


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(UserError, match="solvers must be at least one, not empty"):
        TransportDistance(())
    with pytest.raises(
        UserError, match="solvers must differ in name or number of steps, which name"
    ):
        TransportDistance((Heun(4), Heun(4)))
    with pytest.raises(UserError, match="needs points"):
        TransportDistance().check(replace(FLOW, noise=Ring()), Digits().open().spec, {})
