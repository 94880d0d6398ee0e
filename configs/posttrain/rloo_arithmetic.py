"""RLOO (Ahmadian et al., arXiv 2402.14740) on sums: REINFORCE, other answers as the baseline.

    python -m genjax train rloo_arithmetic   # trains gpt_arithmetic first if missing
    python -m genjax evaluate runs/rloo_arithmetic
    python -m genjax sample runs/rloo_arithmetic

It was not run to its end yet.
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.RLOO(
            base="runs/gpt_arithmetic",
            reward=gx.correct,
            group=8,
            minibatches=4,
            new_tokens=5,
            longest_prompt=7,
            kl=0.0,
        ),
        data=gx.Arithmetic(operations="+", size=8_000),
        optimizer=gx.Adam(gx.Linear(4e-4, 0.0), clip=1.0),
        steps=150,
        batch_size=256,
        evaluators=(gx.RewardOfSamples(gx.correct, "correct", steps=5),),
        every=gx.Every(log=15, evaluate=50, sample=150, checkpoint=150),
        keep=gx.Keep(best="correct", larger_is_better=True),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/gpt_arithmetic_tiny",
            "family.minibatches": 1,
            "steps": 4,
            "batch_size": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
