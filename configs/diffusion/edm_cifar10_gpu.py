"""EDM (Karras et al., arXiv 2206.00364) on CIFAR-10: process, preconditioning, loss and sampler.

    python -m genjax train edm_cifar10_gpu
    python -m genjax train edm_cifar10_gpu --data.name cifar10_jpeg     # a lossy copy

Scores of the lossy copy must not be compared with published ones. The log-normal noise levels,
sigma_data 0.5, non-leaking augmentation and 18 steps of Heun are the paper's. The U-Net is smaller
than the paper's 56M parameters, and the augmentation adds scaling and any rotation. A form for two
cores of a CPU is `edm_cifar10`.

By its plan a step needs 35.6 GB of an H200 and the run at least 3.6 hours; on eight of them 5.6 GB
and 0.55 hours. Only the tiny form has run.

Result:
    command: python -m genjax train edm_cifar10_gpu
    data: CIFAR-10
    metric: Fréchet Inception distance
    value: not yet run
    published: 1.97 unconditional (arXiv 2206.00364)
    planned: h200
    sibling: edm_cifar10
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((128, 256, 256), 3, (16,), 64, dropout=0.13),
            process=gx.EDM(),
            target="v",
            weighting="edm",
            data_std=0.5,
            width=512,
            augment=gx.NonLeaking(0.12, shift=4),
            sampler=gx.Denoising(gx.Heun(18)),
        ),
        data=gx.TFDS(name="cifar10"),
        optimizer=gx.Adam(gx.WarmUp(10_000, gx.Constant(1e-3)), clip=1.0),
        steps=200_000,
        batch_size=512,
        ema=0.9999,
        evaluators=(
            gx.SampleQuality(features="inception", samples=10_000, while_training=False),
            gx.StepsCurve((4, 6, 9, 18), "inception", 10_000),
            gx.Memorisation(features="inception", while_training=False),
        ),
        every=gx.Every(log=100, evaluate=10_000, sample=5000, checkpoint=5000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.net.blocks": 1,
            "family.net.attention": (),
            "family.net.head_dim": 8,
            "family.net.dropout": 0.0,
            "family.width": 16,
            "family.sampler.solver.steps": 2,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 4,
            "batch_size": 8,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
