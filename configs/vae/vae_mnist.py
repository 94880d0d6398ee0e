"""A convolutional VAE on MNIST, in nats and bits per dimension of dynamically binarised images.

    python -m genjax train vae_mnist

6,000 steps (12.8 epochs) took 12 min on two busy 2.5 GHz x86 cores (November 2026, jax 0.10.2,
seed 0). On the test set, with one draw of the latents, the bound is 96.54 nats: 65.35 of
reconstruction and 31.19 of KL. That is 0.178 bits/dim.

For comparison, IWAE (arXiv 1509.00519) reports 86.76 for a perceptron VAE after 9.8M steps, by a
tighter bound of 5,000 samples.

Result:
    command: python -m genjax train vae_mnist
    data: MNIST, binarised dynamically
    hardware: two 2.5 GHz x86 cores, busy
    minutes: 12
    seeds: 0
    metric: nats per test image, one draw of the latents
    value: 96.54
    published: 86.76 for a smaller net, 5,000-sample bound, 9.8M steps (IWAE, arXiv 1509.00519)
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.VAE(
            latent_dim=32,
            coder=gx.ConvCoder(channels=(32, 64), dense=256),
            likelihood=gx.Bernoulli(binarize=True),
            beta=gx.Linear(0.0, 1.0, 1000),
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5)), clip=200.0),
        steps=6000,
        batch_size=128,
        ema=0.999,
        evaluators=(
            gx.Reconstructions(),
            gx.Interpolations(),
            gx.NearestNeighbours(while_training=False),
        ),
        every=gx.Every(log=100, evaluate=1000, sample=1000, checkpoint=1000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.coder.channels": (4, 8),
            "family.coder.dense": 16,
            "family.beta.steps": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators.2.while_training": True,
            "evaluators.2.samples": 16,
            "evaluators.2.limit": 64,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
