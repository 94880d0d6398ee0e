"""A residual network on spoken digits as mel spectrograms: it says what generated ones sound like.

    python -m genjax train classifier_spoken_digits

800 steps (19 epochs) took 55 s on two 2.5 GHz x86 cores in a quiet minute (November 2026, jax
0.10.2). Seed 0 recognises 99.67 % of the official test set, 299 of 300 recordings. Its speakers
are those of the training part. After the way through a waveform (32 iterations of Griffin-Lim) it
recognises 99.33 % of the same recordings. Seeds 1 and 2 miss four of the 300.

Result:
    command: python -m genjax train classifier_spoken_digits
    data: Free Spoken Digits, mel spectrograms
    hardware: two 2.5 GHz x86 cores
    minutes: 0.7 to 0.9
    seeds: 0, 1, 2
    metric: accuracy, % of the test set
    value: 99.67, 98.67, 98.67
    kept: classifier_spoken_digits:accuracy, classifier_spoken_digits_1:accuracy,
      classifier_spoken_digits_2:accuracy
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Classifier(
            net=gx.ResNet((16, 32, 64), (0, 1, 1), stem=8),
            label_smoothing=0.1,
        ),
        data=gx.MelSpectrograms(),
        augment=(gx.Crop(padding=3, mode="constant"), gx.Cutout(size=8, fill=-1.0, prob=0.5)),
        optimizer=gx.AdamW(gx.WarmUp(100, gx.Cosine(3e-3, 1e-5)), weight_decay=0.05),
        steps=800,
        batch_size=64,
        evaluators=(gx.Calibration(), gx.Confusions()),
        every=gx.Every(log=50, evaluate=200, sample=0, checkpoint=200),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (4, 8),
            "family.net.blocks": (1, 0),
            "family.net.stem": 0,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 8,
            "batch_size": 16,
            "every": gx.Every(log=2, evaluate=4, sample=0, checkpoint=4),
        },
    )
