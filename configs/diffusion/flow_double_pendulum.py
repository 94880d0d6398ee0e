"""Flow matching of the next state of a double pendulum given the last: sines and cosines of both
angles, and momenta.

    python -m genjax train flow_double_pendulum
    python -m genjax evaluate runs/flow_double_pendulum    # exponents, drift of the energy

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train flow_double_pendulum
    data: double pendulum from rest at angles up to 2 radians
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Forecast(
            net=gx.ResidualMLP(128, 3, 256),
            process=gx.Straight(),
            target="velocity",
            width=32,
            time_frequency=10.0,
            given=1,
            change=0.17,
            sampler=gx.Rollout(gx.Euler(4), length=200),
        ),
        data=gx.Trajectories(gx.DoublePendulum(), interval=0.05, length=200, size=500),
        optimizer=gx.Adam(gx.WarmUp(200, gx.Cosine(1e-3, 1e-6))),
        steps=6_000,
        batch_size=256,
        ema=0.999,
        evaluators=(gx.Lyapunov(4), gx.RolloutFidelity(length=200), gx.EnsembleCalibration()),
        every=gx.Every(log=500, evaluate=3000, sample=6000, checkpoint=1000),
        steps_per_dispatch=50,
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
            "family.sampler.solver.steps": 2,
            "family.sampler.length": None,
            "data.length": 20,
            "data.size": 10,
            "data.test_size": 10,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators.0.steps": 4,
            "evaluators.0.warm_up": 1,
            "evaluators.0.trajectories": 4,
            "evaluators.1.starts": 4,
            "evaluators.1.length": 5,
            "evaluators.1.limit": 50,
            "evaluators.2.starts": 4,
            "evaluators.2.members": 2,
            "evaluators.2.leads": (2,),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "steps_per_dispatch": 1,
        },
    )
