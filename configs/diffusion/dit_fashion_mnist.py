"""A class-conditional diffusion transformer (Peebles & Xie, arXiv 2212.09748) on Fashion-MNIST.

    python -m genjax train classifier_fashion_mnist      # says what the samples show
    python -m genjax train dit_fashion_mnist
    python -m genjax evaluate runs/dit_fashion_mnist     # agreement and diversity over guidance

The evaluation measures label agreement and diversity at several guidance scales. The network
predicts v, with Min-SNR weights (Hang et al., arXiv 2303.09556) and the cosine schedule.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train dit_fashion_mnist
    data: Fashion-MNIST, a Transformer, guidance
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    eyes = "runs/classifier_fashion_mnist"
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.DiT(4, 128, 4, 4),
            process=gx.VPCosine(),
            target="v",
            weighting="min_snr",
            width=128,
            conditional=True,
            sampler=gx.Denoising(gx.DPMSolver(25), guidance_scale=2.0, clip=True),
        ),
        data=gx.TFDS(name="fashion_mnist"),
        optimizer=gx.AdamW(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5)), weight_decay=0.01, clip=1.0),
        steps=4000,
        batch_size=64,
        ema=0.999,
        evaluators=(
            gx.SampleQuality(features=eyes, while_training=False),
            gx.LabelAgreement(eyes, while_training=False),
            gx.GuidanceCurve(eyes),
            gx.Memorisation(features=eyes, while_training=False),
            gx.Sheet(features=eyes, classifier=eyes, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.patch": 7,
            "family.net.width": 16,
            "family.net.depth": 1,
            "family.net.heads": 2,
            "family.width": 16,
            "family.sampler.solver.steps": 2,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 4,
            "batch_size": 8,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
