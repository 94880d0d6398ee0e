"""A VQ-VAE of several scales on Fashion-MNIST: 1, 4, 16 and 49 of 256 codes, coarse to fine.

    python -m genjax train vqvae_scales_fashion_mnist

The tokenizer of VAR (Tian et al., arXiv 2404.02905) in small: what the scales so far leave of the
7x7 grid is averaged over fewer places, quantised by one codebook for all scales, interpolated back
and passed through a convolution of each scale. `next_scale_fashion_mnist` draws its codes.
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.VQVAE(
            coder=gx.SpatialCoder(channels=(32, 64)),
            likelihood=gx.Gaussian("fixed", 1.0),
            quantiser=gx.MultiscaleCodebook(
                scales=(1, 2, 4, 7), codebook=gx.Codebook(codes=256, code_dim=32)
            ),
        ),
        data=gx.TFDS(name="fashion_mnist"),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5)), clip=1000.0),
        steps=2000,
        batch_size=128,
        ema=None,
        evaluators=(gx.Reconstructions(), gx.CodebookUsage()),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=1000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.quantiser.codebook.codes": 32,
            "family.quantiser.codebook.code_dim": 4,
            "family.coder.channels": (4, 8),
            "family.coder.residual_blocks": 1,
            "steps": 8,
            "batch_size": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
