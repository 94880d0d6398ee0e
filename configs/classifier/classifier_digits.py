"""A perceptron on scikit-learn's 8x8 digits.

    python -m genjax train classifier_digits

2,000 steps in 40 s on two busy x86 cores, jax 0.10.2, seed 0: 98.99 % of 297 held-out digits (three wrong), 0.099 nats,
calibration error 0.070: with smoothed labels it says less than it knows.
"""

from genjax.data.images.augment import Crop
from genjax.data.sources import Digits
from genjax.evaluation.likelihood.classification import Calibration, Confusions
from genjax.experiment import Every, Experiment, Keep
from genjax.families.classifier import Classifier
from genjax.nets.mlp import MLPBackbone
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Classifier(net=MLPBackbone((16,) if tiny else (256, 128), dropout=0.2), label_smoothing=0.05),
        data=Digits(),
        augment=(Crop(padding=1, mode="constant"),),
        optimizer=AdamW(WarmUp(4 if tiny else 100, Cosine(2e-3, 1e-5)), weight_decay=0.05),
        steps=16 if tiny else 2000,
        batch_size=16 if tiny else 128,
        evaluators=(Calibration(), Confusions()),
        every=Every(log=4, evaluate=8, sample=0, checkpoint=8) if tiny else Every(100, 500, 0, 500),
        keep=Keep(best="accuracy", larger_is_better=True),
        steps_per_dispatch=4 if tiny else 20,
    )
