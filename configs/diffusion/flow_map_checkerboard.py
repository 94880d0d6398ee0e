"""Flow maps of a checkerboard, which jump from noise to data in one step or in a few."""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.FlowMap(
            net=gx.ResidualMLP(128, 3, 256),
            form="lagrangian",
            detach=False,
            width=32,
            time_frequency=4.0,
        ),
        data=gx.Points("checkerboard", size=1_000_000, test_size=100_000, standardise=True),
        optimizer=gx.Adam(gx.WarmUp(500, gx.Cosine(2e-3, 1e-5))),
        steps=6000,
        batch_size=512,
        ema=0.999,
        evaluators=(gx.HistogramKL(),),
        every=gx.Every(log=200, evaluate=0, sample=6000, checkpoint=1000),
        steps_per_dispatch=20,
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.width": 8,
            "family.net.blocks": 1,
            "family.net.hidden": 8,
            "family.width": 4,
            "data.size": 200,
            "data.test_size": 100,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators.0.steps": (1, 2),
            "evaluators.0.samples": 100,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "steps_per_dispatch": 1,
        },
    )
