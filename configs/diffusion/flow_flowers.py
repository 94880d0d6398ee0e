"""Flow matching (Lipman et al., arXiv 2210.02747) draws flowers: the default config.

    python -m genjax train flow_flowers
    python -m genjax sample runs/flow_flowers --sampler.label 5 --num 16    # with eight petals

The pictures are generated, so that nothing is downloaded. A label says how many petals a flower
has, and the guidance makes samples keep to it.

Result:
    command: python -m genjax train flow_flowers
    data: generated flowers
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.UNet((16, 32, 64), 1, (6,)),
            process=gx.Straight(),
            target="velocity",
            width=128,
            conditional=True,
            sampler=gx.Denoising(gx.Heun(8), guidance_scale=1.5, clip=True),
        ),
        data=gx.Flowers(side=24),
        optimizer=gx.Adam(gx.WarmUp(50, gx.Cosine(2e-3, 2e-5))),
        steps=1200,
        batch_size=16,
        ema=0.99,
        every=gx.Every(log=50, evaluate=600, sample=600, checkpoint=600),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.net.attention": (),
            "family.width": 16,
            "family.sampler.solver.steps": 2,
            "data.size": 200,
            "data.test_size": 50,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
