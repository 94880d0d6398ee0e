"""Online DPO (Guo et al., arXiv 2402.04792) on sums: right answers against own wrong ones.

    python -m genjax train online_dpo_arithmetic   # trains gpt_arithmetic first if missing
    python -m genjax evaluate runs/online_dpo_arithmetic
    python -m genjax sample runs/online_dpo_arithmetic

It was not run to its end yet.
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.OnlineDPO(
            base="runs/gpt_arithmetic",
            reward=gx.correct,
            group=2,
            minibatches=4,
            new_tokens=5,
            longest_prompt=7,
            beta=0.1,
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
