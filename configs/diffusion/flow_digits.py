"""Flow matching on scikit-learn's 8x8 digits, by label: the teacher of `flow_map_digits`."""

from genjax import gx

EYES = "runs/classifier_digits"


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.ResidualMLP(256, 3, 512),
            process=gx.Straight(),
            target="velocity",
            width=64,
            time_frequency=10.0,
            conditional=True,
            sampler=gx.Denoising(gx.Euler(50)),
        ),
        data=gx.Digits(),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5))),
        steps=2500,
        batch_size=128,
        ema=0.995,
        evaluators=(gx.StepsCurve((1, 2, 4, 50), EYES, 5000),),
        every=gx.Every(log=100, evaluate=2500, sample=2500, checkpoint=500),
        steps_per_dispatch=20,
    )
    return gx.replace_fields(experiment, TINY) if tiny else experiment


TINY = {
    "family.net.width": 8,
    "family.net.blocks": 1,
    "family.net.hidden": 8,
    "family.width": 8,
    "family.sampler.solver.steps": 2,
    "optimizer.learning_rate.warm_up": 4,
    "steps": 8,
    "batch_size": 16,
    "evaluators": (),
    "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
    "steps_per_dispatch": 1,
}
