"""A class-conditional GAN on scikit-learn's digits: real data that needs no download.

    python -m genjax train gan_digits

3,000 steps in under 7 min on two 2.5 GHz x86 cores beside other jobs, November 2026, jax 0.10.2, seed 0. In pixels,
of 1,500 samples against 1,500 training images: Fréchet distance 0.225, kernel distance -0.0012 (standard error 0.0002),
precision 0.965, recall 0.809, density 1.35, coverage 0.983; pairwise distance 0.972 of the data's; no copy of a
training image (of held-out ones 0.3 % would be called so).
"""

from genjax.data.sources import Digits
from genjax.evaluation.images.diversity import Diversity
from genjax.evaluation.images.memorisation import Memorisation
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Experiment, Keep
from genjax.families.gan.gan import GAN
from genjax.nets.gan.generators import ConvBackbone, ConvGenerator
from genjax.optim import Adam, Players
from genjax.schedules import Constant


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=GAN(
            latent_dim=8 if tiny else 32,
            generator=ConvGenerator((8, 4) if tiny else (128, 64)),
            discriminator=ConvBackbone((4, 8) if tiny else (64, 128)),
            r1=1.0,
            conditional=True,
        ),
        data=Digits(),
        optimizer=Players(Adam(Constant(1e-3), b1=0.5), Adam(Constant(1e-3), b1=0.5)),
        steps=8 if tiny else 3000,
        batch_size=16 if tiny else 64,
        ema=0.995,
        evaluators=(
            GameGauges(),
            SampleQuality(samples=100 if tiny else 1500, kernel_subset=50 if tiny else 500),
            Diversity(samples=100 if tiny else 1500),
            Memorisation(samples=50 if tiny else 1500, while_training=False),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 500, 500, 500),
        keep=Keep(best="kernel_pixels"),
    )
