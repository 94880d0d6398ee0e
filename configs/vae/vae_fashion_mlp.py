"""A small dense VAE on Fashion-MNIST, whose latents are searched for designs.

    python -m genjax train vae_fashion_mlp
    python -m genjax design runs/vae_fashion_mlp
    python -m genjax design runs/vae_fashion_mlp --search.method gradient --search.rate 0.05

The larger config is `vae_fashion_mnist`.

The config has not been trained to its end. Seed 0 with `--steps 1500` took 17 minutes, 37 seconds
of them CPU time, on two x86 cores that about twenty other processes shared (November 2026, jax
0.10.2). `genjax design` then searches for the brief `bright_symmetrical_sleeveless`, 1 at best,
with 16 searches of 40 steps side by side:

    256 draws of the prior                    mean 0.693, best 0.833
    the best of 640 draws, 16 times           mean 0.841, best 0.873
    CMA-ES, 16 searches of 640 images         mean 0.932, best 0.945
    Adam at 0.05, 16 searches of 40 images    mean 0.902, best 0.926

The designs are white dresses and tops. Several have sleeves close to the body: the brief
asks for a narrow outline, which is not quite the same.

Result:
    command: python -m genjax train vae_fashion_mlp --steps 1500
    data: Fashion-MNIST
    hardware: two x86 cores, very busy (37 s of CPU time)
    minutes: 17
    seeds: 0
    metric: mean score of 16 designs by CMA-ES for a brief, 640 images each
    value: 0.932
    baseline: 0.841 of the best of 640 draws, 0.693 of a draw
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
