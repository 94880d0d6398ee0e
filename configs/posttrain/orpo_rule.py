"""ORPO (Hong et al., arXiv 2403.07691): learns good reviews, and the odds against bad ones.

    python -m genjax train orpo_rule       # trains gpt_rule, sft_rule first if missing
    python -m genjax evaluate runs/orpo_rule
    python -m genjax compare runs/sft_rule runs/orpo_rule \
        --reward genjax.data.sources.rule_responses:positivity

It was not run to its end yet.
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.ORPO("runs/sft_rule", weight=1.0),
        data=gx.RulePreferences(),
        optimizer=gx.Adam(gx.WarmUp(10, gx.Linear(1e-3, 0.0)), clip=1.0),
        steps=100,
        batch_size=32,
        evaluators=(gx.PreferenceQuality(), gx.PolicyKL(steps=48)),
        every=gx.Every(log=10, evaluate=50, sample=100, checkpoint=100),
        keep=gx.Keep(best="accuracy", larger_is_better=True),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/sft_rule_tiny",
            "data.size": 64,
            "data.test_size": 32,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 8,
            "evaluators.1.steps": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
