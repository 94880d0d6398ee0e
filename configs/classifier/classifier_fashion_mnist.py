"""A residual network on Fashion-MNIST.

    python -m genjax train classifier_fashion_mnist

5,000 steps (10.7 epochs) in about 25 min on one core of a 2.5 GHz x86 machine when it is quiet, November 2026, jax
0.10.2. Test set, seeds 0, 1, 2: 93.09, 92.70, 93.15 %, 0.271 to 0.277 nats, calibration error 0.078 (smoothed labels);
without augmentation (`--augment.0.prob 0 --augment.1.padding 0`) 93.13, 92.74, 92.95 %, 0.300 to 0.310 nats.
In ten epochs augmentation improves the probabilities, not the accuracy.

Two epochs alone (940 steps, the schedule as long) with half the last stage, `ResNet((32, 64, 64), (0, 1, 1), stem=16)`:
89.4 %, and 88.4 % without the convolution at full resolution.
"""

from genjax.data.images.augment import Crop, Flip
from genjax.data.sources import TFDS
from genjax.evaluation.likelihood.classification import Calibration, Confusions
from genjax.experiment import Every, Experiment, Keep
from genjax.families.classifier import Classifier
from genjax.nets.conv.resnet import ResNet
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Classifier(
            net=ResNet((4, 8), (1, 0)) if tiny else ResNet((32, 64, 128), (0, 1, 1), stem=16),
            label_smoothing=0.1,
        ),
        data=TFDS(name="fashion_mnist"),
        augment=(Flip(), Crop(padding=2, mode="edge")),
        optimizer=AdamW(WarmUp(2 if tiny else 300, Cosine(4e-3, 1e-5)), weight_decay=0.05),
        steps=8 if tiny else 5000,
        batch_size=16 if tiny else 128,
        evaluators=(Calibration(), Confusions()),
        every=Every(log=2, evaluate=4, sample=0, checkpoint=4) if tiny else Every(100, 500, 0, 500),
        keep=Keep(best="accuracy", larger_is_better=True),
    )
