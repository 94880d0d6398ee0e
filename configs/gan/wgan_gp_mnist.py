"""WGAN-GP (Gulrajani et al., arXiv 1704.00028) on MNIST.

    python -m genjax train classifier_mnist      # its features judge the samples
    python -m genjax train wgan_gp_mnist
    python -m genjax evaluate runs/wgan_gp_mnist

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train wgan_gp_mnist
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
            generator=gx.ConvGenerator((128, 64)),
            discriminator=gx.ConvBackbone((64, 128)),
            loss="wasserstein",
            gradient_penalty=10.0,
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Players(
            gx.Adam(gx.Constant(2e-4), b1=0.0, b2=0.9),
            gx.Adam(gx.Constant(2e-4), b1=0.0, b2=0.9),
            5,
        ),
        steps=4000,
        batch_size=320,
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
            "batch_size": 20,
            "evaluators": (gx.GameGauges(),),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
