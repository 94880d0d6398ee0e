"""A convolutional VAE on CIFAR-10 with a discretised logistic likelihood: true bits per dimension.

    python -m genjax train vae_cifar10
    python -m genjax train vae_cifar10 --data.name cifar10_jpeg

The bits per dimension are those of the pixels. The second command uses a lossy copy of the images
(JPEG, quality about 75), whose bits per dimension must not be compared with published ones.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train vae_cifar10
    data: CIFAR-10, discretised logistic
    metric: bits per dimension
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.VAE(
            latent_dim=128,
            coder=gx.ConvCoder(channels=(64, 128, 256)),
            likelihood=gx.DiscretizedLogistic("predicted", 0.1),
        ),
        data=gx.TFDS(name="cifar10"),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5)), clip=2000.0),
        augment=(gx.Flip(),),
        steps=5000,
        batch_size=64,
        ema=0.999,
        evaluators=(
            gx.Reconstructions(),
            gx.Interpolations(),
            gx.GeneralisationGap(limit=10_000, while_training=False),
            gx.NearestNeighbours(while_training=False),
        ),
        every=gx.Every(log=100, evaluate=1000, sample=1000, checkpoint=1000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.latent_dim": 8,
            "family.coder.channels": (4, 8),
            "family.coder.dense": 16,
            "steps": 8,
            "batch_size": 16,
            "evaluators.2.limit": 64,
            "evaluators.3.while_training": True,
            "evaluators.3.samples": 16,
            "evaluators.3.shown": 4,
            "evaluators.3.limit": 64,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
