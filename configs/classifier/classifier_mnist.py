"""A small residual network on MNIST.

    python -m genjax train classifier_mnist

2,400 steps (5.1 epochs) in 4 to 10 min on one core of a busy 2.5 GHz x86 machine, November 2026, jax 0.10.2: 139,418
parameters, 24 MFLOP an example and step. Test set, seeds 0, 1, 2: 99.46, 99.54, 99.53 %; without augmentation
(`--augment.0.padding 0 --augment.1.degrees 0`) 99.47, 99.51, 99.50 %: in five epochs it brings nothing that one could
tell from chance. Seed 0: worst class 98.7 %, 0.108 nats, calibration error 0.091 (with smoothed labels it says less
than it knows); one epoch alone (`--steps 470`): 99.12 %.
"""

from genjax.data.images.augment import Crop, Rotate
from genjax.data.sources import TFDS
from genjax.evaluation.likelihood.classification import Calibration, Confusions
from genjax.experiment import Every, Experiment, Keep
from genjax.families.classifier import Classifier
from genjax.nets.conv.resnet import ResNet
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Classifier(net=ResNet((4, 8), (1, 0)) if tiny else ResNet((16, 32, 64)), label_smoothing=0.1),
        data=TFDS(name="mnist"),
        augment=(Crop(padding=2, mode="edge"), Rotate(degrees=10)),
        optimizer=AdamW(WarmUp(2 if tiny else 200, Cosine(5e-3, 1e-5)), weight_decay=0.05),
        steps=8 if tiny else 2400,
        batch_size=16 if tiny else 128,
        evaluators=(Calibration(), Confusions()),
        every=Every(log=2, evaluate=4, sample=0, checkpoint=4) if tiny else Every(100, 400, 0, 400),
        keep=Keep(best="accuracy", larger_is_better=True),
    )
