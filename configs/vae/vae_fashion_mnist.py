"""A convolutional VAE on Fashion-MNIST: grey values as Gaussians whose one variance is learned.

    python -m genjax train vae_fashion_mnist

6,000 steps (12.8 epochs) in 14 min on two busy 2.5 GHz x86 cores, November 2026, jax 0.10.2, seed 0.
Test set, one draw of the latents: -152.46 nats as a density over [-1, 1] (-228.13 reconstruction + 75.67 KL), so
-0.281 bits/dim in that space: no figure to set beside those of discrete likelihoods. Training ends at -171.8.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.reconstruction import Interpolations, Reconstructions
from genjax.experiment import Every, Experiment
from genjax.families.likelihoods import Gaussian
from genjax.families.vae import VAE
from genjax.nets.conv.conv import ConvCoder
from genjax.optim import Adam
from genjax.schedules import Cosine, Linear, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=VAE(
            latent_dim=32,
            coder=ConvCoder(channels=(4, 8), dense=16) if tiny else ConvCoder(channels=(32, 64), dense=256),
            likelihood=Gaussian("shared", 0.1),
            beta=Linear(0.0, 1.0, 4 if tiny else 1000),
        ),
        data=TFDS(name="fashion_mnist"),
        optimizer=Adam(WarmUp(100, Cosine(1e-3, 1e-5)), clip=1000.0),
        steps=8 if tiny else 6000,
        batch_size=16 if tiny else 128,
        ema=0.999,
        evaluators=(Reconstructions(), Interpolations()),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 1000),
    )
