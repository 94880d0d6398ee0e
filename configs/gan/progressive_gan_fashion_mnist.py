"""A GAN whose resolution grows from 7 to 28 pixels (Karras et al., arXiv 1710.10196), on Fashion-MNIST.

    python -m genjax train classifier_fashion_mnist      # its features judge the samples
    python -m genjax train progressive_gan_fashion_mnist
    python -m genjax evaluate runs/progressive_gan_fashion_mnist

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.order.curriculum import Resolutions
from genjax.data.sources import TFDS
from genjax.evaluation.images.bias import Bias
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.images.sheet import Sheet
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Experiment, Keep
from genjax.families.gan.gan import GAN
from genjax.nets.gan.progressive import Progressive
from genjax.optim import Adam, Players
from genjax.schedules import Constant

CLASSIFIER = "runs/classifier_fashion_mnist"


def get_config(tiny: bool = False) -> Experiment:
    nets = Progressive((8, 4, 4) if tiny else (128, 64, 32))
    judged_by_classifier = (
        SampleQuality(CLASSIFIER, samples=10_000, while_training=False),
        Bias(CLASSIFIER, samples=10_000, while_training=False),
        Sheet(features=CLASSIFIER, classifier=CLASSIFIER, while_training=False),
    )
    return Experiment(
        family=GAN(
            latent_dim=8 if tiny else 64,
            generator=nets,
            discriminator=nets,
            loss="wasserstein",
            gradient_penalty=10.0,
            minibatch_std=True,
        ),
        data=TFDS(name="fashion_mnist"),
        curriculum=Resolutions((7, 14, 28), (2, 2) if tiny else (1500, 2500), fade=1 if tiny else 750),
        optimizer=Players(Adam(Constant(1e-3), b1=0.0, b2=0.99), Adam(Constant(1e-3), b1=0.0, b2=0.99)),
        steps=8 if tiny else 8000,
        batch_size=16 if tiny else 64,
        ema=0.999,
        evaluators=(GameGauges(), *(() if tiny else judged_by_classifier)),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 1000),
        keep=Keep(best=None),
    )
