"""A label-conditional diffusion on generated tones of 8 pitches, with a one-dimensional U-Net.

    python -m genjax train diffusion_tones
    python -m genjax sample runs/diffusion_tones --sampler.label 5 --num 4   # a WAV file at 440 Hz

Samples are sounds to listen to; the second command writes four tones.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train diffusion_tones
    data: generated tones of 8 pitches
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((16, 24, 32, 32, 32), 1, ()),
            process=gx.VPCosine(),
            target="v",
            data_std=0.17,
            width=64,
            conditional=True,
            sampler=gx.Denoising(gx.DPMSolver(24), clip=True),
        ),
        data=gx.Tones(),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5))),
        steps=2000,
        batch_size=64,
        ema=0.995,
        evaluators=(
            gx.GeneralisationGap(1000, while_training=False),
            gx.ToneQuality(while_training=False),
        ),
        every=gx.Every(log=100, evaluate=1000, sample=1000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.width": 16,
            "family.sampler.solver.steps": 2,
            "data.size": 200,
            "data.test_size": 50,
            "data.length": 64,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators.0.limit": 100,
            "evaluators.1.samples": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
