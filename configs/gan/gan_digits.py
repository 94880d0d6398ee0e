"""A class-conditional GAN on scikit-learn's digits: real data that needs no download.

    python -m genjax train gan_digits

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import Digits
from genjax.evaluation.diversity import Diversity
from genjax.evaluation.gauges import GameGauges
from genjax.evaluation.memorisation import Memorisation
from genjax.evaluation.quality import SampleQuality
from genjax.experiment import Every, Experiment, Keep
from genjax.families.gan import GAN
from genjax.nets.adversarial import ConvBackbone, ConvGenerator
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
