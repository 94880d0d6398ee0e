"""A small VAE on scikit-learn's 8x8 digits: the default config, on real data that need no download.

    python -m genjax train vae_digits

4,000 steps in about 20 s (200 to 330 steps/s) on two 2.5 GHz x86 cores, November 2026, jax 0.10.2, seed 0. Held-out
297 digits: 23.48 nats (19.53 reconstruction + 3.95 KL), 0.529 bits/dim, the intensities as targets. The bound is best
at weight 1; with less weight on the KL term samples grow sharper and stranger.
"""

from genjax.data.sources import Digits
from genjax.evaluation.images.neighbours import NearestNeighbours
from genjax.evaluation.images.reconstruction import Interpolations, Reconstructions
from genjax.experiment import Every, Experiment
from genjax.families.likelihoods import Bernoulli
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPCoder
from genjax.optim import Adam
from genjax.schedules import Constant, Linear


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=VAE(
            latent_dim=16,
            coder=MLPCoder(hidden=(16,) if tiny else (512, 256)),
            likelihood=Bernoulli(),
            beta=Linear(0.0, 1.0, 10 if tiny else 500),
        ),
        data=Digits(),
        optimizer=Adam(learning_rate=Constant(1e-3), clip=100.0),
        steps=16 if tiny else 4000,
        batch_size=16 if tiny else 128,
        ema=0.999,
        evaluators=(Reconstructions(), Interpolations(), NearestNeighbours(while_training=False)),
        every=Every(log=4, evaluate=8, sample=8, checkpoint=8) if tiny else Every(100, 1000, 1000, 1000),
        steps_per_dispatch=4 if tiny else 20,
    )
