"""A convolutional VAE on MNIST, in nats and bits per dimension of dynamically binarised images.

    python -m genjax train vae_mnist

6,000 steps (12.8 epochs) in 12 min on two busy 2.5 GHz x86 cores, November 2026, jax 0.10.2, seed 0.
Test set, one draw of the latents: 96.54 nats (65.35 reconstruction + 31.19 KL), 0.178 bits/dim. For scale, IWAE's table
has 86.76 for a perceptron VAE after 9.8M steps, by a tighter bound of 5,000 samples.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.neighbours import NearestNeighbours
from genjax.evaluation.images.reconstruction import Interpolations, Reconstructions
from genjax.experiment import Every, Experiment
from genjax.families.likelihoods import Bernoulli
from genjax.families.vae import VAE
from genjax.nets.conv.conv import ConvCoder
from genjax.optim import Adam
from genjax.schedules import Cosine, Linear, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=VAE(
            latent_dim=32,
            coder=ConvCoder(channels=(4, 8), dense=16) if tiny else ConvCoder(channels=(32, 64), dense=256),
            likelihood=Bernoulli(binarize=True),
            beta=Linear(0.0, 1.0, 4 if tiny else 1000),
        ),
        data=TFDS(name="mnist"),
        optimizer=Adam(WarmUp(100, Cosine(1e-3, 1e-5)), clip=200.0),
        steps=8 if tiny else 6000,
        batch_size=16 if tiny else 128,
        ema=0.999,
        evaluators=(
            Reconstructions(),
            Interpolations(),
            NearestNeighbours(samples=16, limit=64) if tiny else NearestNeighbours(while_training=False),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 1000),
    )
