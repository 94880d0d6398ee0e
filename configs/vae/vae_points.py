"""A VAE on two-dimensional points: the smallest thing to look at, and the fastest to change.

    python -m genjax train vae_points

20,000 steps in 30 s on two 2.5 GHz x86 cores, November 2026, jax 0.10.2, seed 0. Held-out points: 1.136 nats
as a density (-2.039 reconstruction + 3.175 KL).
"""

from genjax.data.sources import Points
from genjax.experiment import Every, Experiment
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE, PriorSampler
from genjax.nets.mlp import MLPCoder
from genjax.optim import Adam
from genjax.schedules import Cosine


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=VAE(
            latent_dim=2,
            coder=MLPCoder(hidden=(16,) if tiny else (128, 128), activation="gelu"),
            likelihood=Gaussian("shared", 0.1),
            sampler=PriorSampler(draw=True),
        ),
        data=Points("two_moons"),
        optimizer=Adam(Cosine(1e-3, 1e-5), clip=100.0),
        steps=16 if tiny else 20_000,
        batch_size=16 if tiny else 256,
        ema=0.999,
        every=Every(log=4, evaluate=8, sample=8, checkpoint=8) if tiny else Every(500, 5000, 5000, 5000),
        steps_per_dispatch=4 if tiny else 50,
    )
