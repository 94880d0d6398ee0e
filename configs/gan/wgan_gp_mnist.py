"""WGAN-GP (Gulrajani et al., arXiv 1704.00028) on MNIST.

    python -m genjax train classifier_mnist      # its features judge the samples
    python -m genjax train wgan_gp_mnist
    python -m genjax evaluate runs/wgan_gp_mnist

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.images.bias import Bias
from genjax.evaluation.images.diversity import Diversity
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.images.sheet import Sheet
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Experiment, Keep
from genjax.families.gan.gan import GAN
from genjax.nets.gan.generators import ConvBackbone, ConvGenerator
from genjax.optim import Adam, Players
from genjax.schedules import Constant

CLASSIFIER = "runs/classifier_mnist"


def get_config(tiny: bool = False) -> Experiment:
    judged_by_classifier = (
        SampleQuality(CLASSIFIER, samples=10_000, while_training=False),
        Diversity(CLASSIFIER, while_training=False),
        Memorisation(CLASSIFIER, while_training=False),
        Bias(CLASSIFIER, samples=10_000, while_training=False),
        Sheet(features=CLASSIFIER, classifier=CLASSIFIER, while_training=False),
    )
    return Experiment(
        family=GAN(
            latent_dim=8 if tiny else 64,
            generator=ConvGenerator((8, 4) if tiny else (128, 64)),
            discriminator=ConvBackbone((4, 8) if tiny else (64, 128)),
            loss="wasserstein",
            gradient_penalty=10.0,
        ),
        data=TFDS(name="mnist"),
        optimizer=Players(Adam(Constant(2e-4), b1=0.0, b2=0.9), Adam(Constant(2e-4), b1=0.0, b2=0.9), 5),
        steps=8 if tiny else 4000,
        batch_size=20 if tiny else 320,
        ema=0.999,
        evaluators=(GameGauges(), *(() if tiny else judged_by_classifier)),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 1000),
        keep=Keep(best=None),
    )
