"""A class-conditional GAN on scikit-learn's digits: real data without a download.

    python -m genjax train gan_digits

3,000 steps took under 7 min on two 2.5 GHz x86 cores next to other jobs (November 2026, jax 0.10.2,
seed 0). These are measured in pixels, with 1,500 samples against 1,500 training images: Fréchet
distance 0.225, kernel distance -0.0012 (standard error 0.0002), precision 0.965, recall 0.809,
density 1.35, coverage 0.983. The distance between two samples is 0.972 of that between two images
of the data. No sample is a copy of a training image; 0.3 % of held-out images would count as one.

Result:
    command: python -m genjax train gan_digits
    data: scikit-learn digits, class-conditional, R1
    hardware: two 2.5 GHz x86 cores, busy
    minutes: under 7
    seeds: 0
    metric: Fréchet distance in pixels, 1,500 samples
    value: 0.225

Result:
    command: python -m genjax train gan_digits
    data: scikit-learn digits, class-conditional, R1
    seeds: 0
    metric: precision in pixels, 1,500 samples
    value: 0.965

Result:
    command: python -m genjax train gan_digits
    data: scikit-learn digits, class-conditional, R1
    seeds: 0
    metric: recall in pixels, 1,500 samples
    value: 0.809
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=32,
            generator=gx.ConvGenerator((128, 64)),
            discriminator=gx.ConvBackbone((64, 128)),
            r1=1.0,
            conditional=True,
        ),
        data=gx.Digits(),
        optimizer=gx.Players(
            gx.Adam(gx.Constant(1e-3), b1=0.5), gx.Adam(gx.Constant(1e-3), b1=0.5)
        ),
        steps=3000,
        batch_size=64,
        ema=0.995,
        evaluators=(
            gx.GameGauges(),
            gx.SampleQuality(samples=1500, kernel_subset=500),
            gx.Diversity(samples=1500),
            gx.Memorisation(samples=1500, while_training=False),
        ),
        every=gx.Every(log=100, evaluate=500, sample=500, checkpoint=500),
        keep=gx.Keep(best="kernel_pixels"),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.latent_dim": 8,
            "family.generator.channels": (8, 4),
            "family.discriminator.channels": (4, 8),
            "steps": 8,
            "batch_size": 16,
            "evaluators.1.samples": 100,
            "evaluators.1.kernel_subset": 50,
            "evaluators.2.samples": 100,
            "evaluators.3.samples": 50,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
