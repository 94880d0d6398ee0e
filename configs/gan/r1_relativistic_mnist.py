"""A relativistic GAN with lazy R1 and R2 penalties (Huang et al., arXiv 2501.05441) on MNIST.

    python -m genjax train classifier_mnist      # its features judge the samples
    python -m genjax train r1_relativistic_mnist
    python -m genjax evaluate runs/r1_relativistic_mnist

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train r1_relativistic_mnist
    data: MNIST
    value: not yet run
"""

from genjax import gx

CLASSIFIER = "runs/classifier_mnist"


def get_config(tiny: bool = False) -> gx.Experiment:
    judged_by_classifier = (
        gx.SampleQuality(CLASSIFIER, samples=10_000, while_training=False),
        gx.Diversity(CLASSIFIER, while_training=False),
        gx.Memorisation(CLASSIFIER, while_training=False),
        gx.Bias(CLASSIFIER, samples=10_000, while_training=False),
        gx.Sheet(features=CLASSIFIER, classifier=CLASSIFIER, while_training=False),
    )
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=64,
            generator=gx.ConvGenerator((128, 64), batch_norm=False),
            discriminator=gx.ConvBackbone((64, 128)),
            loss="relativistic",
            r1=1.0,
            r2=1.0,
            penalty_every=4,
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Players(
            gx.Adam(gx.Constant(2e-4), b1=0.0, b2=0.99), gx.Adam(gx.Constant(2e-4), b1=0.0, b2=0.99)
        ),
        steps=5000,
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
            "family.generator.channels": (8, 4),
            "family.discriminator.channels": (4, 8),
            "steps": 8,
            "batch_size": 16,
            "evaluators": (gx.GameGauges(),),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
