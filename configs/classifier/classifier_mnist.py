"""A small residual network on MNIST.

    python -m genjax train classifier_mnist

2,400 steps (5.1 epochs) took 4 to 10 min on one core of a busy 2.5 GHz x86 machine (November 2026,
jax 0.10.2). The net has 139,418 parameters; a training step costs 24 MFLOP per example. On the test
set seeds 0, 1 and 2 have 99.46, 99.54 and 99.53 %. Without augmentation (`--augment.0.padding 0
--augment.1.degrees 0`) they have 99.47, 99.51 and 99.50 %. So in five epochs augmentation has no
effect beyond chance.

Seed 0 has 98.7 % on its worst class, 0.108 nats and a calibration error of 0.091: with smoothed
labels it is less confident than it is accurate. One epoch alone (`--steps 470`) reaches 99.12 %.

Result:
    command: python -m genjax train classifier_mnist
    data: MNIST
    hardware: one 2.5 GHz x86 core, busy
    minutes: 4 to 10
    seeds: 0, 1, 2
    metric: accuracy, % of the test set
    value: 99.46, 99.54, 99.53

Result:
    command: python -m genjax train classifier_mnist --augment.0.padding 0 --augment.1.degrees 0
    data: MNIST, not augmented
    seeds: 0, 1, 2
    metric: accuracy, % of the test set
    value: 99.47, 99.51, 99.50

Result:
    command: python -m genjax train classifier_mnist --steps 470
    data: MNIST
    seeds: 0
    metric: accuracy after one epoch, % of the test set
    value: 99.12
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Classifier(net=gx.ResNet((16, 32, 64)), label_smoothing=0.1),
        data=gx.TFDS(name="mnist"),
        augment=(gx.Crop(padding=2, mode="edge"), gx.Rotate(degrees=10)),
        optimizer=gx.AdamW(gx.WarmUp(200, gx.Cosine(5e-3, 1e-5)), weight_decay=0.05),
        steps=2400,
        batch_size=128,
        evaluators=(gx.Calibration(), gx.Confusions()),
        every=gx.Every(log=100, evaluate=400, sample=0, checkpoint=400),
        keep=gx.Keep(best="accuracy", larger_is_better=True),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (4, 8),
            "family.net.blocks": (1, 0),
            "optimizer.learning_rate.warm_up": 2,
            "steps": 8,
            "batch_size": 16,
            "every": gx.Every(log=2, evaluate=4, sample=0, checkpoint=4),
        },
    )
