"""A text-conditional diffusion on generated pictures with captions: a prompt says what to draw.

    python -m genjax train diffusion_captioned_shapes
    python -m genjax sample runs/diffusion_captioned_shapes \
        --prompt "a red circle at the top left" --sampler.guidance-scale 3
    python -m genjax evaluate runs/diffusion_captioned_shapes

Without a prompt, samples are those of the unconditional model. The test split holds combinations of
shape, colour, place and size that training never shows.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train diffusion_captioned_shapes
    data: generated pictures with captions
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    text = gx.HashedText(64)
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((24, 48, 48), 1, (4,)),
            process=gx.VPCosine(),
            target="v",
            data_std=0.4,
            width=128,
            text=text,
            sampler=gx.Denoising(gx.DPMSolver(16), clip=True),
        ),
        data=gx.CaptionedShapes(text=text),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-5))),
        steps=4000,
        batch_size=64,
        ema=0.995,
        evaluators=(gx.SampleQuality(samples=1000, kernel_subset=500, while_training=False),),
        every=gx.Every(log=100, evaluate=1000, sample=1000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.net.attention": (),
            "family.width": 16,
            "family.text.width": 16,
            "family.sampler.solver.steps": 2,
            "data.size": 200,
            "data.test_size": 50,
            "data.text.width": 16,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
