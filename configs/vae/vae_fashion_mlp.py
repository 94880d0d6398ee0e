"""A small dense VAE on Fashion-MNIST, whose latents are searched for designs.

    python -m genjax train vae_fashion_mlp
    python -m genjax design runs/vae_fashion_mlp
    python -m genjax design runs/vae_fashion_mlp --search.method gradient --search.rate 0.05

The larger config is `vae_fashion_mnist`.

Seed 0, 10,000 steps in 3.5 minutes on two shared x86 cores (November 2026, jax 0.10.2): -110.0 nats
a test image as a density. `genjax design` then searches for the brief
`bright_symmetrical_sleeveless`, 1 at best, with 16 searches of 40 steps side by side:

    256 draws of the prior                    mean 0.698, best 0.905
    the best of 640 draws, 16 times           mean 0.876, best 0.915
    CMA-ES, 16 searches of 640 images         mean 0.957, best 0.961
    Adam at 0.05, 16 searches of 40 images    mean 0.921, best 0.954

With seeds 1 and 2 the mean of CMA-ES is 0.955 and 0.964, of 256 draws 0.688 and 0.703. After 1,500
steps of seed 0 the means were 0.693, 0.841, 0.932 and 0.902. The designs of CMA-ES are plain
white dresses without sleeves, and much alike.

Result:
    command: python -m genjax train vae_fashion_mlp
    data: Fashion-MNIST
    hardware: two x86 cores, shared
    minutes: 2.4 to 3.5
    seeds: 0, 1, 2
    metric: mean score of 16 designs by CMA-ES for a brief, 640 images each
    value: 0.957, 0.955, 0.964
    baseline: 0.876 of the best of 640 draws, 0.698 of a draw (seed 0)

Result:
    command: python -m genjax train vae_fashion_mlp
    data: Fashion-MNIST
    hardware: two x86 cores, shared
    minutes: 2.4 to 3.5
    seeds: 0, 1, 2
    metric: nats per test image as a density over [-1, 1], one draw of the latents
    value: -109.99, -113.59, -112.66
    kept: vae_fashion_mlp:loss, vae_fashion_mlp_1:loss, vae_fashion_mlp_2:loss
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
