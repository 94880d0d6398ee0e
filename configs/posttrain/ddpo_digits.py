"""DDPO (Black et al., arXiv 2305.13301): digits rewarded for symmetry, by policy gradients.

    python -m genjax train classifier_digits     # says which digits the samples still are
    python -m genjax train ddpo_digits           # trains diffusion_digits first if missing
    python -m genjax evaluate runs/ddpo_digits
    python -m genjax sample runs/ddpo_digits

The task is that of `diffusion_reward_digits`. It was not run to its end yet.

Result:
    command: python -m genjax train ddpo_digits
    data: samples of `diffusion_digits`, rewarded for mirror symmetry
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    judged_by_classifier = (gx.LabelAgreement("runs/classifier_digits", while_training=False),)
    experiment = gx.Experiment(
        family=gx.DDPO(
            base="runs/diffusion_digits",
            reward=gx.mirror_symmetry,
            samples=4,
            steps=12,
            updates=11,
            sampler=gx.Denoising(gx.DPMSolver(16), clip=True),
        ),
        data=gx.Digits(),
        optimizer=gx.Adam(gx.Linear(2e-4, 0.0), clip=1.0),
        steps=30,
        batch_size=16,
        evaluators=(
            gx.RewardOfImages(gx.mirror_symmetry, "symmetry", samples=1000),
            *judged_by_classifier,
        ),
        every=gx.Every(log=3, evaluate=15, sample=30, checkpoint=30),
        keep=gx.Keep(best="symmetry", larger_is_better=True),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/diffusion_digits_tiny",
            "family.sampler.solver.steps": 2,
            "family.samples": 2,
            "family.steps": 3,
            "family.updates": 2,
            "steps": 4,
            "evaluators": (
                gx.RewardOfImages(reward=gx.mirror_symmetry, name="symmetry", samples=50),
            ),
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
