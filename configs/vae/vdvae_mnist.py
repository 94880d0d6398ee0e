"""A hierarchical VAE with a top-down path (VDVAE, arXiv 2011.10650) on binarised MNIST: two layers
of latents of 4x4x8, and below them two of 7x7x8.

    python -m genjax train vdvae_mnist

Result:
    command: python -m genjax train vdvae_mnist
    data: MNIST, binarised dynamically
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.VDVAE(
            width=32,
            middle=8,
            latent_dim=8,
            layers=(0, 2, 2),
            likelihood=gx.Bernoulli(binarize=True),
            beta=gx.Linear(0.0, 1.0, 500),
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(3e-3, 1e-5)), clip=200.0),
        steps=20_000,
        batch_size=64,
        ema=0.998,
        evaluators=(
            gx.Reconstructions(),
            gx.ImportanceBound(samples=500, limit=100),
        ),
        every=gx.Every(log=100, evaluate=4000, sample=4000, checkpoint=4000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.width": 6,
            "family.middle": 4,
            "family.latent_dim": 2,
            "family.layers": (0, 1),
            "family.beta.steps": 4,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 8,
            "batch_size": 16,
            "evaluators.1.samples": 10,
            "evaluators.1.limit": 32,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
