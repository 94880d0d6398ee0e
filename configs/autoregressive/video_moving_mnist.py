"""Moving MNIST of 32 x 32 pixels: the next frame given all before it.

Result:
    command: python -m genjax train video_moving_mnist
    data: Moving MNIST, 32 x 32, generated
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.NextState(
            net=gx.SpaceTime(8, 64, 2, margin=4, history=3, copies=2, matches=3, reach=2), first=2
        ),
        data=gx.MovingDigits(side=32, digit=14, test_size=1_000),
        optimizer=gx.AdamW(gx.WarmUp(100, gx.Cosine(2e-3, 1e-5)), clip=1.0),
        steps=3_000,
        batch_size=4,
        ema=0.995,
        evaluators=(gx.NextFrameLikelihood(), gx.ClipContinuation()),
        every=gx.Every(log=50, evaluate=1000, sample=3000, checkpoint=250),
        steps_per_dispatch=10,
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.patch": 4,
            "family.net.margin": 1,
            "family.net.width": 8,
            "family.net.depth": 1,
            "family.net.heads": 2,
            "family.given": 2,
            "data.side": 8,
            "data.digit": 4,
            "data.frames": 4,
            "data.size": 32,
            "data.test_size": 16,
            "optimizer.learning_rate.warm_up": 4,
            "evaluators.1.clips": 4,
            "evaluators.1.block": 4,
            "steps": 8,
            "batch_size": 4,
            "steps_per_dispatch": 1,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
