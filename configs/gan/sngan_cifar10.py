"""SNGAN (Miyato et al., arXiv 1802.05957): a hinge loss and spectral normalisation, on CIFAR-10.

    python -m genjax train sngan_cifar10
    python -m genjax train sngan_cifar10 --data.name cifar10_jpeg     # a lossy copy; no score of it is a published one

Residual networks and a schedule after those of the paper (five discriminator steps of 64, Adam with b1 0 and 2e-4):
work for a GPU.

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.images.augment import Flip
from genjax.data.sources import TFDS
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Experiment, Keep
from genjax.families.gan.gan import GAN
from genjax.nets.gan.resnet import ResNetDiscriminator, ResNetGenerator
from genjax.optim import Adam, Players
from genjax.schedules import Linear


def get_config(tiny: bool = False) -> Experiment:
    fid = (SampleQuality("inception", samples=50_000, while_training=False),)
    return Experiment(
        family=GAN(
            latent_dim=8 if tiny else 128,
            generator=ResNetGenerator((4, 4, 4), (16,)) if tiny else ResNetGenerator((256, 256, 256, 256)),
            discriminator=ResNetDiscriminator((4, 4), 1) if tiny else ResNetDiscriminator((128, 128, 128, 128), 2),
            loss="hinge",
            spectral_norm="discriminator",
        ),
        data=TFDS(name="cifar10"),
        augment=(Flip(),),
        optimizer=Players(
            Adam(Linear(2e-4, 0.0), b1=0.0, b2=0.9), Adam(Linear(2e-4, 0.0), b1=0.0, b2=0.9), discriminator_steps=5
        ),
        steps=8 if tiny else 100_000,
        batch_size=20 if tiny else 320,
        ema=0.9999,
        evaluators=(GameGauges(), *(() if tiny else fid)),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 5000, 1000, 1000),
        keep=Keep(best=None),
    )
