"""DDPM (Ho et al., arXiv 2006.11239) on MNIST for a GPU: a U-Net predicts the noise.

    python -m genjax train classifier_mnist       # its features judge the samples
    python -m genjax train ddpm_mnist_gpu
    python -m genjax evaluate runs/ddpm_mnist_gpu     # also shows quality over the number of steps

It has the paper's linear schedule in continuous time, the paper's loss and a smaller U-Net. Samples
take 50 steps of DDIM. A form for two cores of a CPU is `ddpm_mnist`.

By its plan a step needs 0.9 GB of an H200, and the 20,000 steps at least 37 s. On one core of an
x86 machine they would take 29 hours, at 0.19 steps a second. Only the tiny form has run.

Result:
    command: python -m genjax train ddpm_mnist_gpu
    data: MNIST, noise prediction
    value: not yet run
    planned: h200
    sibling: ddpm_mnist
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    eyes = "runs/classifier_mnist"
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((32, 64, 64), 2, (7,), 16, dropout=0.1),
            process=gx.VPLinear(),
            target="noise",
            width=128,
            sampler=gx.Denoising(gx.DDIM(50), clip=True),
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Adam(gx.WarmUp(1000, gx.Constant(2e-4)), clip=1.0),
        steps=20_000,
        batch_size=128,
        ema=0.999,
        evaluators=(
            gx.SampleQuality(features=eyes, while_training=False),
            gx.StepsCurve(features=eyes),
            gx.Memorisation(features=eyes, while_training=False),
            gx.Inpainting(),
            gx.Sheet(features=eyes, classifier=eyes, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=1000),
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
