"""EDM (Karras et al., arXiv 2206.00364) on CIFAR-10, in a form for two cores of a CPU.

    python -m genjax train edm_cifar10
    python -m genjax train edm_cifar10 --data.name cifar10_jpeg     # a lossy copy

Process, preconditioning, loss, log-normal noise levels, sigma_data 0.5, non-leaking augmentation
and 18 steps of Heun are the paper's, as in `edm_cifar10_gpu`; the U-Net has 0.7M parameters instead
of the paper's 56M.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train edm_cifar10 --data.name cifar10_jpeg
    data: CIFAR-10 as JPEG
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((16, 32, 64), 1, (8,), 16),
            process=gx.EDM(),
            target="v",
            weighting="edm",
            data_std=0.5,
            width=64,
            augment=gx.NonLeaking(0.12, shift=4),
            sampler=gx.Denoising(gx.Heun(18)),
        ),
        data=gx.TFDS(name="cifar10"),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(2e-3, 1e-5)), clip=1.0),
        steps=4000,
        batch_size=64,
        ema=0.998,
        evaluators=(
            gx.GeneralisationGap(2000, while_training=False),
            gx.SampleQuality(samples=5000, while_training=False),
            gx.Memorisation(samples=500, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.net.attention": (),
            "family.net.head_dim": 8,
            "family.width": 16,
            "family.sampler.solver.steps": 2,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 4,
            "batch_size": 8,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
