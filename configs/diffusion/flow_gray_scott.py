"""Flow matching of a reaction and diffusion (Gray & Scott) on 32 x 32 points: the next frame given
the last.

    python -m genjax train flow_gray_scott
    python -m genjax sample runs/flow_gray_scott --num 4 --sampler.length 60    # a GIF, 30 frames
    python -m genjax evaluate runs/flow_gray_scott

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train flow_gray_scott
    data: Gray-Scott, 32 x 32 points
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Forecast(
            net=gx.UNet((8, 16), 1, ()),
            process=gx.Straight(),
            target="velocity",
            width=64,
            time_frequency=10.0,
            given=2,
            change=0.15,
            sampler=gx.Rollout(gx.Euler(4), length=80),
        ),
        data=gx.Trajectories(
            gx.GrayScott(), interval=20.0, window=2, length=40, size=60, test_size=10
        ),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-6))),
        steps=1_500,
        batch_size=16,
        ema=0.998,
        evaluators=(
            gx.RolloutFidelity(60, 30, 500),
            gx.EnsembleCalibration(20, 5, (10, 20), while_training=False),
        ),
        every=gx.Every(log=50, evaluate=500, sample=1500, checkpoint=100),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.channels": (8,),
            "family.width": 4,
            "family.sampler.solver.steps": 2,
            "family.sampler.length": None,
            "data.system.size": 8,
            "data.length": 6,
            "data.size": 6,
            "data.test_size": 5,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators.0.starts": 4,
            "evaluators.0.length": 5,
            "evaluators.0.limit": 50,
            "evaluators.1.starts": 4,
            "evaluators.1.members": 2,
            "evaluators.1.leads": (2,),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
