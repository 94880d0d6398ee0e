"""DDPM (Ho et al., arXiv 2006.11239) on MNIST: a U-Net predicts the noise.

    python -m genjax train classifier_mnist       # its features judge the samples
    python -m genjax train ddpm_mnist
    python -m genjax evaluate runs/ddpm_mnist     # also shows quality over the number of steps

It has the paper's linear schedule in continuous time, the paper's loss and a small U-Net. Samples
take 50 steps of DDIM. The form for a GPU is `ddpm_mnist_gpu`.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train ddpm_mnist
    data: MNIST, noise prediction
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    eyes = "runs/classifier_mnist"
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((16, 32, 64), 1, (7,), 16),
            process=gx.VPLinear(),
            target="noise",
            width=64,
            sampler=gx.Denoising(gx.DDIM(50), clip=True),
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5)), clip=1.0),
        steps=3000,
        batch_size=64,
        ema=0.998,
        evaluators=(
            gx.SampleQuality(features=eyes, samples=5000, while_training=False),
            gx.StepsCurve(features=eyes),
            gx.Memorisation(features=eyes, while_training=False),
            gx.Inpainting(),
            gx.Sheet(features=eyes, classifier=eyes, while_training=False),
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
