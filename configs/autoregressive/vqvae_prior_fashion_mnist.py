"""A class-conditional Transformer over the 7x7 codes of `vqvae_fashion_mnist`, which draws images.

    python -m genjax train vqvae_fashion_mnist          # the codes
    python -m genjax train classifier_fashion_mnist     # judges the samples
    python -m genjax train vqvae_prior_fashion_mnist
    python -m genjax sample runs/vqvae_prior_fashion_mnist --sampler.label 9 --sampler.top-p 0.95
    python -m genjax evaluate runs/vqvae_prior_fashion_mnist

2,000 steps (2.1 epochs) took 10 min of CPU time on one core of a busy 2.5 GHz x86 machine (November
2026, jax 0.10.2, seed 0). On the test set the loss with averaged parameters is 2.023 nats per code;
uniform codes would have 5.545. For all 49 codes that is 0.182 bits per pixel.

5,000 samples against 50,000 training images, in the features of `classifier_fashion_mnist` (its
seed 2): Fréchet distance 1.95, precision 0.912, recall 0.825, density 0.797, coverage 0.682. The
Fréchet distance of the VQ-VAE's reconstructions of 5,000 test images is 0.88, and that of the
images themselves 0.03.

The classifier takes 75.4 % of 1,000 samples for the requested label. With 500 samples each the
share is 74.2 % without guidance, 90.6 % at scale 2 and 95.6 % at scale 4. Samples of one label are
3.8 apart without guidance, 2.7 at scale 2 and 2.5 at scale 4. Of 5,000 samples 0.02 % look like
copies of training images; of new images 0.5 % would. Drawing 256 images takes 1.2 s.

Result:
    command: python -m genjax train vqvae_prior_fashion_mnist
    data: Fashion-MNIST, the codes of `vqvae_fashion_mnist` by label
    hardware: one 2.5 GHz x86 core, busy
    minutes: 10
    seeds: 0
    metric: nats per code, test set
    value: 2.023

Result:
    command: python -m genjax train vqvae_prior_fashion_mnist
    data: Fashion-MNIST, the codes of `vqvae_fashion_mnist` by label
    hardware: one 2.5 GHz x86 core, busy
    minutes: 10
    seeds: 0
    metric: Fréchet distance of 5,000 samples in the features of `classifier_fashion_mnist`
    value: 1.95
    baseline: reconstructions 0.88, test images 0.03

Result:
    command: python -m genjax train vqvae_prior_fashion_mnist
    data: Fashion-MNIST, the codes of `vqvae_fashion_mnist` by label
    hardware: one 2.5 GHz x86 core, busy
    minutes: 10
    seeds: 0
    metric: samples that a classifier takes for the requested label, % of 1,000
    value: 75.4
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    eyes = "runs/classifier_fashion_mnist"
    net = gx.Transformer(
        layers=3,
        heads=4,
        width=96,
        context=49,
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
        family=gx.CodePrior(autoencoder="runs/vqvae_fashion_mnist", net=net, conditional=True),
        data=gx.TFDS(name="fashion_mnist"),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(2e-3, 1e-5)), b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=2000,
        batch_size=64,
        ema=0.998,
        evaluators=judged_by_classifier,
        every=gx.Every(log=100, evaluate=1000, sample=1000, checkpoint=1000),
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
