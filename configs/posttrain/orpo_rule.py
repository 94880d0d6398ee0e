"""ORPO (Hong et al., arXiv 2403.07691): learns good reviews, and the odds against bad ones.

    python -m genjax train orpo_rule       # trains gpt_rule, sft_rule first if missing
    python -m genjax evaluate runs/orpo_rule
    python -m genjax compare runs/sft_rule runs/orpo_rule \
        --reward genjax.data.sources.rule_responses:positivity

100 steps of 32 pairs, seed 0, from a model that was fine-tuned already, for the comparison: reviews
drawn for two prompts have 1.47 more positive words than negative ones, those of `sft_rule` 0.73, at
a KL of 2.9 nats. The odds find the better of two held-out reviews in 72.4 % of cases. With the
paper's weight of 0.1 the likelihood of the chosen reviews was nearly all that was learned: 0.80
positive words (of 64 reviews). It took 39 s of CPU time with evaluation (November 2026, jax
0.10.2).

Result:
    command: python -m genjax train orpo_rule
    data: 4,000 generated pairs of reviews, from `sft_rule`
    hardware: two x86 cores, shared with other work
    minutes: 6.2
    seeds: 0
    metric: accuracy of the implicit reward, % of 1,000 held-out pairs
    value: 72.4
    error: 1.4

Result:
    command: python -m genjax train orpo_rule
    data: 512 reviews of each model, of two prompts, by `genjax compare`
    seeds: 0
    metric: wins over reviews of `sft_rule` by positive less negative words, % (61.9 to 70.1)
    value: 66.1
    baseline: 50
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
