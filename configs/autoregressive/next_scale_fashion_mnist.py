"""Next-scale prediction on Fashion-MNIST: images drawn in four passes, coarse to fine, by label.

python -m genjax train vqvae_scales_fashion_mnist   # the codes
python -m genjax train classifier_fashion_mnist     # judges the samples
python -m genjax train next_scale_fashion_mnist
python -m genjax sample runs/next_scale_fashion_mnist --sampler.label 9 --sampler.top-p 0.95
python -m genjax evaluate runs/next_scale_fashion_mnist
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    eyes = "runs/classifier_fashion_mnist"
    net = gx.Transformer(
        layers=3,
        heads=4,
        width=96,
        context=70,
        activation="gelu",
        biases=(),
    )
    judged_by_classifier = (
        gx.SampleQuality(eyes, while_training=False),
        gx.Diversity(eyes, while_training=False),
        gx.LabelAgreement(eyes, while_training=False),
        gx.GuidanceCurve(eyes),
        gx.Memorisation(eyes, while_training=False),
    )
    experiment = gx.Experiment(
        family=gx.NextScale(
            autoencoder="runs/vqvae_scales_fashion_mnist", net=net, conditional=True
        ),
        data=gx.TFDS(name="fashion_mnist"),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(2e-3, 1e-5)), b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=1500,
        batch_size=64,
        ema=0.998,
        evaluators=judged_by_classifier,
        every=gx.Every(log=100, evaluate=1500, sample=1500, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 16,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
