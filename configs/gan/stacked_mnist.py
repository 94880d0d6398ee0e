"""Stacked MNIST after PacGAN (Lin et al., arXiv 1712.04086): how many of 1,000 modes are found?

    python -m genjax train classifier_mnist      # names the digit of each channel
    python -m genjax train stacked_mnist
    python -m genjax train stacked_mnist --family.pack 2 --batch-size 256
    python -m genjax evaluate runs/stacked_mnist

A small DCGAN plays by the paper's hard protocol: the discriminator is half as wide as the
generator, and a batch has 128 packs. Three things differ from the paper: strided kernels are 4x4,
leaky slopes are 0.2, and the classifier is `classifier_mnist`.

Seed 0 ran on one core of a busy 2.5 GHz x86 machine, at 6 to 7 steps per second for the plain game
and 3.4 with packs (November 2026, jax 0.10.2). In that version of the code the two players did not
share fakes: the generator received fresh ones. Of 25,600 samples (modes / KL):

    steps          4,000          8,000
    plain          694 / 1.71     141 / 4.15
    packs of two   195 / 2.91     694 / 1.48

Packs learn more slowly, and the plain game collapses. The paper's fifty trials: 487.7 / 2.24 for
the plain game and 840.7 / 1.00 with packs of two. The full 10,000 steps have not been run.

Result:
    command: python -m genjax train stacked_mnist
    data: three MNIST digits an image, 1,000 modes
    hardware: one 2.5 GHz x86 core, busy
    seeds: 0
    metric: modes among 25,600 samples after 8,000 steps
    value: 141
    baseline: 694 after 4,000 steps
    published: 487.7 (PacGAN, arXiv 1712.04086)

Result:
    command: python -m genjax train stacked_mnist --family.pack 2 --batch-size 256
    data: three MNIST digits an image, 1,000 modes
    hardware: one 2.5 GHz x86 core, busy
    seeds: 0
    metric: modes among 25,600 samples after 8,000 steps
    value: 694
    baseline: 195 after 4,000 steps
    published: 840.7 (PacGAN, arXiv 1712.04086)

Result:
    command: python -m genjax train stacked_mnist
    data: three MNIST digits an image, 1,000 modes
    metric: modes after all 10,000 steps
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    modes = gx.StackedModes("runs/classifier_mnist", while_training=False)
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=256,
            generator=gx.ConvGenerator((64, 32, 16, 8), head=3),
            discriminator=gx.ConvBackbone((4, 8, 16, 32), batch_norm=True),
        ),
        data=gx.Stacked(gx.TFDS(name="mnist")),
        optimizer=gx.Players(
            gx.Adam(gx.Constant(1e-4), b1=0.5, b2=0.99), gx.Adam(gx.Constant(2e-4), b1=0.5, b2=0.99)
        ),
        steps=10_000,
        batch_size=128,
        evaluators=(gx.GameGauges(), *((modes,))),
        every=gx.Every(log=100, evaluate=1000, sample=1000, checkpoint=1000),
        keep=gx.Keep(best=None),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.latent_dim": 8,
            "family.generator.channels": (8, 4, 4),
            "family.discriminator.channels": (4, 4),
            "data.size": 500,
            "data.test_size": 100,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (gx.GameGauges(),),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
