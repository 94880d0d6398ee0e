"""ControlNet (Zhang et al., arXiv 2302.05543): a sketch controls `attributes_to_shapes`.

    python -m genjax train sketch_to_shapes     # trains attributes_to_shapes first if missing
    python -m genjax sample runs/sketch_to_shapes --sampler.sketch sketch.png --prompt "red"
    python -m genjax evaluate runs/sketch_to_shapes

Result:
    command: python -m genjax train sketch_to_shapes
    data: generated pictures with captions, and their edges
    value: not yet run
"""

from genjax import gx

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
PLACES = ("at the top left", "at the top right", "at the bottom left", "at the bottom right")


def get_config(tiny: bool = False) -> gx.Experiment:
    attributes = gx.Attributes(
        (
            gx.Attribute("shape", ("circle", "square", "triangle", "cross")),
            gx.Attribute("colour", COLOURS),
            gx.Attribute("place", (*PLACES, "in the middle")),
            gx.Attribute("size", ("small", "large")),
        )
    )
    experiment = gx.Experiment(
        family=gx.ControlNet(
            base="runs/attributes_to_shapes",
            copied=2,
            sampler=gx.SketchSampling(gx.DPMSolver(16), guidance_scale=2.0, clip=True),
        ),
        data=gx.Sketched(gx.CaptionedShapes(text=attributes)),
        augment=(gx.HideAttributes(attributes, 0.5),),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(1e-3, 1e-5))),
        steps=3000,
        batch_size=64,
        ema=0.995,
        evaluators=(gx.SketchAgreement(while_training=False),),
        every=gx.Every(log=100, evaluate=1000, sample=1000, checkpoint=200),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/attributes_to_shapes_tiny",
            "family.copied": 1,
            "family.sampler.solver.steps": 2,
            "data.data.size": 200,
            "data.data.test_size": 50,
            "optimizer.learning_rate.warm_up": 4,
            "steps": 8,
            "batch_size": 16,
            "evaluators": (),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
