"""A convolutional VAE on CIFAR-10 whose bits per dimension are those of the pixels: a discretised logistic likelihood.

    python -m genjax train vae_cifar10
    python -m genjax train vae_cifar10 --data.name cifar10_jpeg

The second form is for a lossy copy of the images (JPEG, quality about 75), whose bits per dimension say nothing beside
published ones. Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.images.augment import Flip
from genjax.data.sources import TFDS
from genjax.evaluation.images.neighbours import NearestNeighbours
from genjax.evaluation.images.reconstruction import Interpolations, Reconstructions
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.experiment import Every, Experiment
from genjax.families.likelihoods import DiscretizedLogistic
from genjax.families.vae import VAE
from genjax.nets.conv.conv import ConvCoder
from genjax.optim import Adam
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=VAE(
            latent_dim=8 if tiny else 128,
            coder=ConvCoder(channels=(4, 8), dense=16) if tiny else ConvCoder(channels=(64, 128, 256)),
            likelihood=DiscretizedLogistic("predicted", 0.1),
        ),
        data=TFDS(name="cifar10"),
        optimizer=Adam(WarmUp(200, Cosine(1e-3, 1e-5)), clip=2000.0),
        augment=(Flip(),),
        steps=8 if tiny else 5000,
        batch_size=16 if tiny else 64,
        ema=0.999,
        evaluators=(
            Reconstructions(),
            Interpolations(),
            GeneralisationGap(limit=64 if tiny else 10_000, while_training=False),
            NearestNeighbours(samples=16, shown=4, limit=64) if tiny else NearestNeighbours(while_training=False),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 1000),
    )
