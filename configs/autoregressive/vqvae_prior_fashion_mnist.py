"""The prior of the VQ-VAE of Fashion-MNIST: a class-conditional Transformer over its 7x7 codes, which draws images.

    python -m genjax train vqvae_fashion_mnist          # the codes
    python -m genjax train classifier_fashion_mnist     # judges the samples
    python -m genjax train vqvae_prior_fashion_mnist
    python -m genjax sample runs/vqvae_prior_fashion_mnist --sampler.label 9 --sampler.top-p 0.95
    python -m genjax evaluate runs/vqvae_prior_fashion_mnist

Not yet trained to its end: only its tiny form has run.
"""

from genjax.data.sources import TFDS
from genjax.evaluation.agreement import LabelAgreement
from genjax.evaluation.diversity import Diversity
from genjax.evaluation.guidance import GuidanceCurve
from genjax.evaluation.memorisation import Memorisation
from genjax.evaluation.quality import SampleQuality
from genjax.experiment import Every, Experiment
from genjax.families.code_prior import CodePrior
from genjax.nets.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    eyes = "runs/classifier_fashion_mnist"
    net = Transformer(
        layers=1 if tiny else 3,
        heads=2 if tiny else 4,
        width=16 if tiny else 96,
        context=49,
        activation="gelu",
        biases=(),
    )
    judged_by_classifier = (
        SampleQuality(eyes, while_training=False),
        Diversity(eyes, while_training=False),
        LabelAgreement(eyes, while_training=False),
        GuidanceCurve(eyes),
        Memorisation(eyes, while_training=False),
    )
    return Experiment(
        family=CodePrior(autoencoder="runs/vqvae_fashion_mnist", net=net, conditional=True),
        data=TFDS(name="fashion_mnist"),
        optimizer=AdamW(WarmUp(2 if tiny else 100, Cosine(2e-3, 1e-5)), b2=0.99, weight_decay=0.1, clip=1.0),
        steps=4 if tiny else 2000,
        batch_size=16 if tiny else 64,
        ema=0.998,
        evaluators=() if tiny else judged_by_classifier,
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(100, 1000, 1000, 1000),
    )
