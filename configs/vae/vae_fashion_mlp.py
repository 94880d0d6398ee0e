"""A small dense VAE on Fashion-MNIST, whose latents are searched for designs.

    python -m genjax train vae_fashion_mlp
    python -m genjax design runs/vae_fashion_mlp
    python -m genjax design runs/vae_fashion_mlp --search.method gradient --search.rate 0.05

The larger config is `vae_fashion_mnist`.

Result:
    command: python -m genjax train vae_fashion_mlp
    data: Fashion-MNIST
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.VAE(
            latent_dim=24,
            coder=gx.MLPCoder((512, 256)),
            likelihood=gx.Gaussian("shared", 0.1),
            beta=gx.Linear(0.0, 1.0, 500),
        ),
        data=gx.TFDS(name="fashion_mnist"),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(2e-3, 1e-5)), clip=1000.0),
        steps=10_000,
        batch_size=128,
        ema=0.998,
        evaluators=(gx.Reconstructions(while_training=False), gx.Diversity(while_training=False)),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.latent_dim": 4,
            "family.coder.hidden": (16,),
            "family.beta.steps": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
