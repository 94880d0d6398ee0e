"""A trained flow of 8x8 digits distilled into a flow map, which draws a digit in one step.

    python -m genjax train classifier_digits         # whose features the evaluation compares in
    python -m genjax train flow_digits
    python -m genjax train flow_map_digits
    python -m genjax evaluate runs/flow_map_digits   # Fréchet distance after 1, 2, 4 and 50 jumps

The map starts as the flow of its teacher, as both have the same net. The config has not yet been
trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train flow_map_digits
    data: scikit-learn digits, a distilled flow map
    value: not yet run
"""

from genjax import gx

EYES, TEACHER = "runs/classifier_digits", "runs/flow_digits"


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.FlowMap(
            net=gx.ResidualMLP(192, 2, 384),
            form="lagrangian",
            flow_share=0.25,
            to_data=0.25,
            teacher=TEACHER,
            width=64,
            time_frequency=10.0,
            conditional=True,
        ),
        data=gx.Digits(),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5))),
        steps=2000,
        batch_size=128,
        ema=0.995,
        start_from=gx.StartFrom(TEACHER),
        evaluators=(gx.StepsCurve((1, 2, 4, 50), EYES, 4000),),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=500),
        steps_per_dispatch=20,
    )
    return gx.replace_fields(experiment, TINY) if tiny else experiment


TINY = {
    "family.net.width": 8,
    "family.net.blocks": 1,
    "family.net.hidden": 8,
    "family.width": 8,
    "optimizer.learning_rate.warm_up": 4,
    "steps": 8,
    "batch_size": 16,
    "evaluators": (),
    "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
    "steps_per_dispatch": 1,
}
