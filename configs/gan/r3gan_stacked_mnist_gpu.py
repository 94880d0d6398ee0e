"""R3GAN (Huang et al., arXiv 2501.05441) on Stacked MNIST: which parts of its loss find all modes?

    python -m genjax train classifier_mnist      # names the digit of each channel
    python -m genjax train r3gan_stacked_mnist_gpu
    python -m genjax train r3gan_stacked_mnist_gpu --family.loss non_saturating     # no pairing
    python -m genjax train r3gan_stacked_mnist_gpu --family.r2 0                    # R1 alone
    python -m genjax evaluate runs/r3gan_stacked_mnist_gpu

Nets without normalisation; each fake is paired with a real image, and R1 and R2 hold the slope of
the discriminator at both. The same ablation on small images of a thousand modes, for a CPU:
`r3gan_stacked_digits`.

By its plan a step needs 8.7 GB of an H200, and the 50,000 steps at least 21 minutes. Only the tiny
form has run.

Result:
    command: python -m genjax train r3gan_stacked_mnist_gpu
    data: three MNIST digits an image, 1,000 modes
    metric: modes among 25,600 samples
    value: not yet run
    published: 1,000 with pairing, R1 and R2 (arXiv 2501.05441)
    planned: h200
    sibling: r3gan_stacked_digits

Result:
    command: python -m genjax train r3gan_stacked_mnist_gpu --family.loss non_saturating
    data: three MNIST digits an image, 1,000 modes
    metric: modes among 25,600 samples
    value: not yet run
    published: 693 without pairing (arXiv 2501.05441)
    planned: h200
    sibling: r3gan_stacked_digits --family.loss non_saturating
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    modes = gx.StackedModes("runs/classifier_mnist", while_training=False)
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=64,
            generator=gx.R3Generator((256, 256, 128)),
            discriminator=gx.R3Discriminator((128, 256, 256)),
            loss="relativistic",
            r1=1.0,
            r2=1.0,
        ),
        data=gx.Stacked(gx.TFDS(name="mnist")),
        optimizer=gx.Players(
            gx.Adam(gx.Constant(2e-4), b1=0.0, b2=0.99), gx.Adam(gx.Constant(2e-4), b1=0.0, b2=0.99)
        ),
        steps=50_000,
        batch_size=256,
        ema=0.999,
        evaluators=(gx.GameGauges(), modes),
        every=gx.Every(log=100, evaluate=5000, sample=5000, checkpoint=5000),
        keep=gx.Keep(best=None),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.latent_dim": 8,
            "family.generator": gx.R3Generator((8, 4), blocks=1, expansion=1, group=4),
            "family.discriminator": gx.R3Discriminator((4, 8), blocks=1, expansion=1, group=4),
            "data.size": 500,
            "data.test_size": 100,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (gx.GameGauges(),),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
