"""A VQ-VAE of several scales on Fashion-MNIST: 1, 4, 16 and 49 of 256 codes, coarse to fine.

    python -m genjax train vqvae_scales_fashion_mnist

The tokenizer of VAR (Tian et al., arXiv 2404.02905) in small: what the scales so far leave of the
7x7 grid is averaged over fewer places, quantised by one codebook for all scales, interpolated back
and passed through a convolution of each scale. `next_scale_fashion_mnist` draws its codes.

2,000 steps (4.3 epochs) took 5.3 min of CPU time, 16 min of the clock, on two cores shared with
some ten other programs (November 2026, jax 0.10.2, seed 0). On the test set the mean squared error
is 0.0276 in [-1, 1], all 256 codes are used, with a perplexity of 206. The plain codebook of
`vqvae_fashion_mnist` with the options `--steps 2000 --family.code-dim 32`, so with equal net,
codes, steps, batch and seed, has 0.0275 and a perplexity of 221 in 4.1 min of CPU time: the 70
codes of four scales reconstruct no better than the 49 of one.

Result:
    command: python -m genjax train vqvae_scales_fashion_mnist
    data: Fashion-MNIST, 1, 4, 16 and 49 of 256 codes
    hardware: two x86 cores, very busy (minutes of CPU time)
    minutes: 5.3
    seeds: 0
    metric: mean squared error of a test image in [-1, 1]
    value: 0.0276
    kept: vqvae_scales_fashion_mnist:mse
    baseline: 0.0275 by `vqvae_fashion_mnist` at equal width, codes and steps
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
