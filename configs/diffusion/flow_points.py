"""Flow matching from eight Gaussians to two moons (Tong et al., arXiv 2302.00482), with two couplings.

    python -m genjax train flow_points
    python -m genjax train flow_points --family.coupling optimal --run-dir runs/flow_points_optimal
    python -m genjax evaluate runs/flow_points     # squared W2 after one step of Euler and by an adaptive solver

Optimal pairs are those of each batch of 256.

Not yet trained to its end: only its tiny form has run.
"""

from genjax.couplings import Ring
from genjax.data.sources import Points
from genjax.evaluation.transport import TransportDistance
from genjax.experiment import Every, Experiment
from genjax.families.diffusion import Denoising, Diffusion
from genjax.nets.residual_mlp import ResidualMLP
from genjax.optim import Adam
from genjax.processes import Straight
from genjax.samplers import Adaptive, Euler
from genjax.schedules import Constant


def get_config(tiny: bool = False) -> Experiment:
    solvers = (Euler(1), Adaptive(1e-2, 1e-2)) if tiny else (Euler(1), Adaptive())
    return Experiment(
        family=Diffusion(
            net=ResidualMLP(8, 1, 8) if tiny else ResidualMLP(128, 3, 512),
            process=Straight(),
            target="velocity",
            width=4 if tiny else 16,
            time_frequency=1.0,
            noise=Ring(),
            sampler=Denoising(Euler(2 if tiny else 100)),
        ),
        data=Points("wide_moons", size=200 if tiny else 100_000, test_size=100 if tiny else 10_000),
        optimizer=Adam(Constant(3e-4)),
        steps=8 if tiny else 20_000,
        batch_size=16 if tiny else 256,
        ema=0.999,
        evaluators=(TransportDistance(solvers, samples=100 if tiny else 10_000),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(200, 2000, 5000, 2000),
        steps_per_dispatch=1 if tiny else 20,
    )
