"""SNGAN (Miyato et al., arXiv 1802.05957) on CIFAR-10, in a form for two cores of a CPU.

    python -m genjax train sngan_cifar10
    python -m genjax train sngan_cifar10 --data.name cifar10_jpeg     # a lossy copy

Hinge loss, spectral normalisation and residual networks are the paper's, as in `sngan_cifar10_gpu`;
the networks are an eighth and a quarter as wide, and there is one discriminator step for each of
the generator instead of five.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train sngan_cifar10 --data.name cifar10_jpeg
    data: CIFAR-10 as JPEG, hinge, spectral norm
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=128,
            generator=gx.ResNetGenerator((32, 32, 32, 32)),
            discriminator=gx.ResNetDiscriminator((32, 32, 32, 32), 2),
            loss="hinge",
            spectral_norm="discriminator",
        ),
        data=gx.TFDS(name="cifar10"),
        augment=(gx.Flip(),),
        optimizer=gx.Players(
            gx.Adam(gx.Linear(2e-4, 0.0), b1=0.0, b2=0.9),
            gx.Adam(gx.Linear(4e-4, 0.0), b1=0.0, b2=0.9),
        ),
        steps=4000,
        batch_size=64,
        ema=0.998,
        evaluators=(
            gx.GameGauges(),
            gx.SampleQuality(samples=5000, while_training=False),
            gx.Memorisation(samples=500, while_training=False),
            gx.Diversity(samples=500, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=2000, sample=1000, checkpoint=500),
        keep=gx.Keep(best=None),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.latent_dim": 8,
            "family.generator.channels": (4, 4, 4),
            "family.generator.attention": (16,),
            "family.discriminator.channels": (4, 4),
            "family.discriminator.halved": 1,
            "steps": 8,
            "batch_size": 20,
            "evaluators": (gx.GameGauges(),),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
