"""A GAN that grows from 7 to 28 pixels (Karras et al., arXiv 1710.10196), on Fashion-MNIST.

    python -m genjax train classifier_fashion_mnist      # its features judge the samples
    python -m genjax train progressive_gan_fashion_mnist
    python -m genjax evaluate runs/progressive_gan_fashion_mnist

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train progressive_gan_fashion_mnist
    data: Fashion-MNIST, 7 to 28 pixels
    value: not yet run
"""

from genjax import gx

CLASSIFIER = "runs/classifier_fashion_mnist"


def get_config(tiny: bool = False) -> gx.Experiment:
    nets = gx.Progressive((64, 32, 16))
    judged_by_classifier = (
        gx.SampleQuality(CLASSIFIER, samples=10_000, while_training=False),
        gx.Bias(CLASSIFIER, samples=10_000, while_training=False),
        gx.Sheet(features=CLASSIFIER, classifier=CLASSIFIER, while_training=False),
    )
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=64,
            generator=nets,
            discriminator=nets,
            loss="wasserstein",
            gradient_penalty=10.0,
            minibatch_std=True,
        ),
        data=gx.TFDS(name="fashion_mnist"),
        curriculum=gx.Resolutions((7, 14, 28), (1000, 2500), fade=500),
        optimizer=gx.Players(
            gx.Adam(gx.Constant(1e-3), b1=0.0, b2=0.99), gx.Adam(gx.Constant(1e-3), b1=0.0, b2=0.99)
        ),
        steps=6000,
        batch_size=64,
        ema=0.999,
        evaluators=(gx.GameGauges(), *judged_by_classifier),
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
            "family.discriminator.channels": (8, 4, 4),
            "curriculum.steps": (2, 2),
            "curriculum.fade": 1,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (gx.GameGauges(),),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
