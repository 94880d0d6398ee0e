"""Moving MNIST of 64 x 64 pixels, as published: the next frame given all before it, on a GPU.

    python -m genjax train video_moving_mnist_gpu
    python -m genjax evaluate runs/video_moving_mnist_gpu

The data, the split into 10 frames given and 10 to come, and the score in nats a frame are those of
Kalchbrenner et al. (arXiv 1610.00527), but the test clips: the published file is generated once and
for all, these from a seed, so that they have a floor of their own. A copy may move by 4 pixels, as
digits move by at most 3.6. The small form is `video_moving_mnist`.

By its plan a step needs 18.2 GB of an H200 and the run at least 0.98 hours. Only the tiny form
has run.

Result:
    command: python -m genjax train video_moving_mnist_gpu
    data: Moving MNIST, 64 x 64, generated
    value: not yet run
    published: 87.6 (VPN), 110.1 (its convolutional baseline), 179.8, 367.2 (ConvLSTM); floor 86.3
    planned: h200
    sibling: video_moving_mnist
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.NextState(
            net=gx.SpaceTime(8, 384, 8, 6, margin=8, history=3, copies=3, matches=3, reach=4),
            first=2,
        ),
        data=gx.MovingDigits(size=1_000_000),
        optimizer=gx.AdamW(gx.WarmUp(1000, gx.Cosine(1e-3, 1e-6)), weight_decay=0.05, clip=1.0),
        steps=100_000,
        batch_size=64,
        precision="bfloat16",
        ema=0.9995,
        evaluators=(gx.NextFrameLikelihood(), gx.ClipContinuation(reach=8)),
        every=gx.Every(log=100, evaluate=10_000, sample=10_000, checkpoint=5000),
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
            "family.net.reach": 1,
            "family.given": 2,
            "data.side": 8,
            "data.digit": 4,
            "data.frames": 4,
            "data.size": 32,
            "data.test_size": 16,
            "evaluators.1.clips": 4,
            "evaluators.1.block": 4,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
