"""A trained flow of MNIST distilled into a flow map, which draws a digit in one step.

    python -m genjax train classifier_mnist         # whose features the evaluation compares in
    python -m genjax train flow_mnist
    python -m genjax train flow_map_mnist
    python -m genjax evaluate runs/flow_map_mnist   # Fréchet distance after 1, 2, 4 and 50 jumps

The map starts as the flow of its teacher, as both have the same net. It has not been trained to its
end: `flow_mnist`, as it stands, does not draw digits.

Result:
    command: python -m genjax train flow_map_mnist
    data: MNIST, a distilled flow map
    value: not yet run
    reason: its teacher does not draw digits yet
"""

from genjax import gx

EYES, TEACHER = "runs/classifier_mnist", "runs/flow_mnist"


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.FlowMap(
            net=gx.DiT(4, 64, 3, 4),
            form="lagrangian",
            flow_share=0.25,
            to_data=0.25,
            teacher=TEACHER,
            width=64,
            time_frequency=10.0,
            conditional=True,
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5))),
        steps=2000,
        batch_size=64,
        ema=0.995,
        start_from=gx.StartFrom(TEACHER),
        evaluators=(gx.StepsCurve((1, 2, 4, 50), EYES),),
        every=gx.Every(log=100, evaluate=2000, sample=2000, checkpoint=500),
    )
    return gx.replace_fields(experiment, TINY) if tiny else experiment


TINY = {
    "family.net.patch": 7,
    "family.net.width": 16,
    "family.net.depth": 1,
    "family.net.heads": 2,
    "family.width": 16,
    "optimizer.learning_rate.warm_up": 4,
    "steps": 8,
    "batch_size": 16,
    "evaluators": (),
    "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
}
