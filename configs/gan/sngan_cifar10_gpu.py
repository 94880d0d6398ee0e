"""SNGAN (Miyato et al., arXiv 1802.05957) on CIFAR-10: hinge loss and spectral normalisation.

    python -m genjax train sngan_cifar10_gpu
    python -m genjax train sngan_cifar10_gpu --data.name cifar10_jpeg     # a lossy copy

Scores of the lossy copy must not be compared with published ones. The residual networks and the
schedule follow the paper: five discriminator steps of 64 images, Adam with b1 0 and a learning rate
of 2e-4. A form for two cores of a CPU is `sngan_cifar10`.

By its plan a step needs 0.6 GB of an H200, and the 100,000 steps at least 9 minutes; on one TPU v5e
0.5 GB and 23 minutes. Only the tiny form has run.

Result:
    command: python -m genjax train sngan_cifar10_gpu
    data: CIFAR-10, hinge, spectral norm
    metric: Fréchet Inception distance
    value: not yet run
    published: 21.7 (arXiv 1802.05957)
    planned: h200
    sibling: sngan_cifar10
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    fid = (gx.SampleQuality("inception", samples=50_000, while_training=False),)
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=128,
            generator=gx.ResNetGenerator((256, 256, 256, 256)),
            discriminator=gx.ResNetDiscriminator((128, 128, 128, 128), 2),
            loss="hinge",
            spectral_norm="discriminator",
        ),
        data=gx.TFDS(name="cifar10"),
        augment=(gx.Flip(),),
        optimizer=gx.Players(
            gx.Adam(gx.Linear(2e-4, 0.0), b1=0.0, b2=0.9),
            gx.Adam(gx.Linear(2e-4, 0.0), b1=0.0, b2=0.9),
            discriminator_steps=5,
        ),
        steps=100_000,
        batch_size=320,
        ema=0.9999,
        evaluators=(gx.GameGauges(), *fid),
        every=gx.Every(log=100, evaluate=5000, sample=1000, checkpoint=1000),
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
