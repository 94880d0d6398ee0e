"""RLOO (Ahmadian et al., arXiv 2402.14740) on sums: REINFORCE, other answers as the baseline.

    python -m genjax train rloo_arithmetic   # trains gpt_arithmetic first if missing
    python -m genjax evaluate runs/rloo_arithmetic
    python -m genjax sample runs/rloo_arithmetic

A step has 32 sums with 8 answers each and one epoch of four minibatches, as in `grpo_arithmetic`.
Seed 0 from a `gpt_arithmetic` of seed 0: the share of right answers to the held-out sums, drawn at
temperature 1, was 0.592 before and 0.867, 0.902 and 0.929 after 50, 100 and 150 steps, at a KL of
0.50 nats per answer. 150 steps took 2 min of CPU time, with evaluation and the start (November
2026, jax 0.10.2).

Result:
    command: python -m genjax train rloo_arithmetic
    data: generated sums, from `gpt_arithmetic`
    hardware: two x86 cores, shared with other work
    minutes: 15.6
    seeds: 0
    metric: share of right answers to 1,000 held-out sums
    value: 0.929
    error: 0.008
    baseline: 0.592 before; 0.925 by `grpo_arithmetic`
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
