"""A perceptron on scikit-learn's 8x8 digits.

    python -m genjax train classifier_digits

2,000 steps took 40 s on two busy x86 cores (jax 0.10.2, seed 0). Its accuracy on 297 held-out
digits is 98.99 % (three mistakes), with 0.099 nats and a calibration error of 0.070. With smoothed
labels it is less confident than it is accurate.

Result:
    command: python -m genjax train classifier_digits
    data: scikit-learn digits
    hardware: two x86 cores, busy
    minutes: 0.67
    seeds: 0
    metric: accuracy, % of 297 held-out digits
    value: 98.99
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Classifier(net=gx.MLPBackbone((256, 128), dropout=0.2), label_smoothing=0.05),
        data=gx.Digits(),
        augment=(gx.Crop(padding=1, mode="constant"),),
        optimizer=gx.AdamW(gx.WarmUp(100, gx.Cosine(2e-3, 1e-5)), weight_decay=0.05),
        steps=2000,
        batch_size=128,
        evaluators=(gx.Calibration(), gx.Confusions()),
        every=gx.Every(log=100, evaluate=500, sample=0, checkpoint=500),
        keep=gx.Keep(best="accuracy", larger_is_better=True),
        steps_per_dispatch=20,
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.hidden": (16,),
            "optimizer.learning_rate.warm_up": 4,
            "steps": 16,
            "batch_size": 16,
            "every": gx.Every(log=4, evaluate=8, sample=0, checkpoint=8),
            "steps_per_dispatch": 4,
        },
    )
