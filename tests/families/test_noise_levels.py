"""A curriculum of noise levels: times lie within its limits, as the process draws them there,
and training follows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

import genjax
from genjax.data.order.curriculum import NoiseLevels
from genjax.data.sources import Points
from genjax.errors import UserError
from genjax.experiment import Every, Experiment
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.samplers.diffusion.processes import EDM, Straight, VPCosine, VPLinear

PROCESSES = (VPLinear(), VPCosine(), EDM(), Straight())
KEY = jax.random.key(3)


def logsnr(process, t):
    alpha, sigma = process.alpha_sigma(t)
    return 2 * jnp.log(alpha / sigma)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("limits", [(-2.0, 3.0), (-4.0, -1.0), (1.0, 99.0)])
def test_times_keep_to_the_limits_and_are_as_dense_there_as_without(process, limits):
    found = process.draw_times(KEY, 4000, jnp.asarray(limits))
    levels = np.asarray(logsnr(process, found))
    assert levels.min() >= limits[0] - 1e-3 and levels.max() <= limits[1] + 1e-3
    every = np.asarray(process.draw_times(jax.random.key(4), 40_000))
    inside = every[(logsnr(process, every) >= limits[0]) & (logsnr(process, every) <= limits[1])]
    assert len(inside) > 1000
    assert kstest(np.asarray(found), inside).statistic < 0.01


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_limits_that_the_process_does_not_reach_change_nothing(process):
    wide = process.draw_times(KEY, 64, jnp.asarray([-jnp.inf, jnp.inf]))
    np.testing.assert_array_equal(wide, process.draw_times(KEY, 64))


SMALL = Diffusion(ResidualMLP(8, 1, 8), width=4)


def experiment(**changes):
    settings = dict(
        family=SMALL,
        data=Points("two_moons", 200, 50),
        optimizer=Adam(),
        steps=8,
        batch_size=16,
        every=Every(log=1, evaluate=4, sample=0, checkpoint=0),
        devices=Devices(count=1),
    )
    return Experiment(**settings | changes)


@pytest.mark.long
def test_training_follows_the_limits_and_evaluation_does_not(run_dir):
    """In the limits of all levels training is that without a curriculum; in others it is not."""
    runs = {
        name: genjax.train(experiment(curriculum=curriculum), run_dir / name, quiet=True)
        for name, curriculum in (
            ("plain", None),
            ("all", NoiseLevels((-30.0, 30.0), (-30.0, 30.0), 4)),
            ("noisy", NoiseLevels((-30.0, 0.0), (-30.0, 0.0), 4)),
        )
    }
    kernels = {name: jax.tree.leaves(run.state.params) for name, run in runs.items()}
    for a, b in zip(kernels["plain"], kernels["all"], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        not np.array_equal(a, b) for a, b in zip(kernels["plain"], kernels["noisy"], strict=True)
    )


def test_families_without_noise_levels_are_refused():
    with pytest.raises(UserError, match="NoiseLevels needs a diffusion, got VAE"):
        experiment(family=VAE(2, MLPCoder((8,))), curriculum=NoiseLevels())
    bound = Diffusion(ResidualMLP(8, 1, 8), width=4, target="noise", weighting="likelihood")
    with pytest.raises(UserError, match="needs all noise levels"):
        experiment(family=bound, curriculum=NoiseLevels())
