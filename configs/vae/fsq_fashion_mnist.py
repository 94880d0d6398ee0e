"""Finite scalar quantisation on Fashion-MNIST: 7x7 of 1,000 codes, none of which is learned.

    python -m genjax train fsq_fashion_mnist

Result:
    command: python -m genjax train fsq_fashion_mnist
    data: Fashion-MNIST, 7x7 of 1,000 codes
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.VQVAE(
            coder=gx.SpatialCoder(channels=(16, 32)),
            likelihood=gx.Gaussian("fixed", 1.0),
            quantiser=gx.FSQ((8, 5, 5, 5)),
        ),
        data=gx.TFDS(name="fashion_mnist"),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5)), clip=1000.0),
        steps=2000,
        batch_size=128,
        ema=None,
        evaluators=(gx.Reconstructions(), gx.CodebookUsage()),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=2000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.quantiser.levels": (4, 3),
            "family.coder.channels": (4, 8),
            "family.coder.residual_blocks": 1,
            "steps": 8,
            "batch_size": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
