"""The 25 Gaussians of PacGAN (Lin et al., arXiv 1712.04086): does a GAN find them all?

    python -m genjax train gan_points
    python -m genjax train gan_points --family.pack 2 --batch-size 200

Batches of 100 packs. 30,000 steps in about 10 min (packs of two: 12 to 14 min) on one core of a 2.5 GHz x86 machine,
November 2026, jax 0.10.2, with the code before both players judged the same fakes: the generator then had fresh ones.
Of 2,500 samples, seeds 0 and 1:

    plain          24, 20 modes   65, 77 % good   reverse KL 0.44, 0.52
    packs of two   23, 25 modes   62, 44 % good   reverse KL 0.33, 0.26

The paper's ten trials of 400,000 steps: 17.3 modes, 94.8 %, 0.70 plain and 23.8, 91.3 %, 0.13 in packs of two. At a
thirteenth of the steps fewer samples are near a centre; packs already make the modes more even.
"""

from genjax.data.sources import Points
from genjax.evaluation.images.modes import MixtureModes
from genjax.evaluation.likelihood.gauges import GameGauges
from genjax.experiment import Every, Experiment, Keep
from genjax.families.gan.gan import GAN
from genjax.nets.gan.generators import MaxoutBackbone, MLPGenerator
from genjax.optim import Adam, Players
from genjax.schedules import Constant


def get_config(tiny: bool = False) -> Experiment:
    data = Points("twenty_five_gaussians", size=1000 if tiny else 100_000)
    centres, std = data.modes()
    return Experiment(
        family=GAN(
            latent_dim=2,
            generator=MLPGenerator((8,) if tiny else (400,) * 4, batch_norm=True),
            discriminator=MaxoutBackbone((8,), 2) if tiny else MaxoutBackbone((200,) * 3, 5),
            init_std=0.02,
        ),
        data=data,
        optimizer=Players(Adam(Constant(1e-4), b1=0.8), Adam(Constant(1e-4), b1=0.8)),
        steps=8 if tiny else 30_000,
        batch_size=16 if tiny else 100,
        evaluators=(GameGauges(), MixtureModes(tuple(map(tuple, centres.tolist())), std, samples=2500)),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(200, 5000, 5000, 5000),
        keep=Keep(best="modes", larger_is_better=True),
        steps_per_dispatch=1 if tiny else 20,
    )
