"""The small GPT of `gpt_rule` learns to answer prompts as the better half of the reviews does.

    python -m genjax train sft_rule            # trains gpt_rule first if missing
    python -m genjax evaluate runs/sft_rule

100 steps took 22 s on two x86 cores shared with other work (November 2026, jax 0.10.2). An answer
to each of 1,000 held-out prompts has 0.87, 0.89 and 0.85 more positive words than negative ones
(seeds 0, 1, 2), each ±0.04. The reviews that it learns from have 0.85 on average, all reviews 0.

Result:
    command: python -m genjax train sft_rule
    data: generated reviews, the better half, from `gpt_rule`
    hardware: two x86 cores, shared
    minutes: 0.37
    seeds: 0, 1, 2
    metric: positive words less negative ones, answers to 1,000 held-out prompts
    value: 0.87, 0.89, 0.85
    error: 0.04
    baseline: 0.85 of the reviews it learns from
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=64, context=64)
    answers = gx.Decoding(steps=48, prompts=("How was the hotel?", "How was the train?"))
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=answers),
        data=gx.RuleResponses(which="chosen"),
        optimizer=gx.AdamW(gx.WarmUp(10, gx.Linear(1e-3, 0.0)), clip=1.0),
        steps=100,
        batch_size=32,
        evaluators=(gx.RewardOfSamples(gx.positivity, "positivity", steps=48),),
        every=gx.Every(log=10, evaluate=50, sample=100, checkpoint=100),
        start_from=gx.StartFrom("runs/gpt_rule"),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.sampler.steps": 8,
            "data.size": 64,
            "data.test_size": 32,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 8,
            "evaluators.0.steps": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "start_from.run": "runs/gpt_rule_tiny",
        },
    )
