"""Flow matching on MNIST, by label: the teacher of `flow_map_mnist`.

    python -m genjax train classifier_mnist     # whose features the evaluation compares in
    python -m genjax train flow_mnist
    python -m genjax evaluate runs/flow_mnist   # Fréchet distance after 1, 2, 4 and 50 Euler steps

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train flow_mnist
    data: MNIST, the teacher of a flow map
    value: not yet run
"""

from genjax import gx

EYES = "runs/classifier_mnist"


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Diffusion(
            net=gx.DiT(4, 64, 3, 4),
            process=gx.Straight(),
            target="velocity",
            width=64,
            time_frequency=10.0,
            conditional=True,
            sampler=gx.Denoising(gx.Euler(50)),
        ),
        data=gx.TFDS(name="mnist"),
        optimizer=gx.Adam(gx.WarmUp(100, gx.Cosine(2e-3, 1e-5))),
        steps=2000,
        batch_size=64,
        ema=0.995,
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
    "family.sampler.solver.steps": 2,
    "optimizer.learning_rate.warm_up": 4,
    "steps": 8,
    "batch_size": 16,
    "evaluators": (),
    "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
}
