"""A small VAE on scikit-learn's 8x8 digits: the default config, on data that need no download."""

from genjax.data.sources import Digits
from genjax.evaluation.reconstruction import Interpolations, Reconstructions
from genjax.experiment import Every, Experiment
from genjax.families.vae import VAE, Bernoulli
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
        evaluators=(Reconstructions(), Interpolations()),
        every=Every(log=4, evaluate=8, sample=8, checkpoint=8) if tiny else Every(100, 1000, 1000, 1000),
        steps_per_dispatch=4 if tiny else 20,
    )
