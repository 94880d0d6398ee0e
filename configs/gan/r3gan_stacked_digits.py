"""The ablation of R3GAN's loss (Huang et al., arXiv 2501.05441) on three 8x8 digits an image.

    python -m genjax train classifier_digits      # names the digit of each channel
    python -m genjax train r3gan_stacked_digits
    python -m genjax train r3gan_stacked_digits --family.loss non_saturating     # no pairing
    python -m genjax train r3gan_stacked_digits --family.r2 0                    # R1 alone
    python -m genjax evaluate runs/r3gan_stacked_digits

Result:
    command: python -m genjax train r3gan_stacked_digits
    data: three scikit-learn digits an image, 1,000 modes
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    modes = gx.StackedModes("runs/classifier_digits", while_training=False)
    experiment = gx.Experiment(
        family=gx.GAN(
            latent_dim=64,
            generator=gx.MLPGenerator((256, 256), "leaky_relu"),
            discriminator=gx.MLPBackbone((256, 256), "leaky_relu"),
            loss="relativistic",
            r1=1.0,
            r2=1.0,
        ),
        data=gx.Stacked(gx.Digits()),
        optimizer=gx.Players(
            gx.Adam(gx.Constant(5e-4), b1=0.0, b2=0.99), gx.Adam(gx.Constant(5e-4), b1=0.0, b2=0.99)
        ),
        steps=6000,
        batch_size=64,
        ema=0.998,
        evaluators=(gx.GameGauges(), modes),
        every=gx.Every(log=200, evaluate=2000, sample=2000, checkpoint=2000),
        keep=gx.Keep(best=None),
        steps_per_dispatch=50,
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.latent_dim": 8,
            "family.generator.hidden": (16,),
            "family.discriminator.hidden": (16,),
            "data.size": 500,
            "data.test_size": 100,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (gx.GameGauges(),),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "steps_per_dispatch": 1,
        },
    )
