"""PPO with a reward model: the policy of `sft_rule` writes reviews that `reward_rule` prefers.

    python -m genjax train ppo_reward_model    # trains gpt_rule, sft_rule, reward_rule if missing
    python -m genjax evaluate runs/ppo_reward_model
    python -m genjax compare runs/sft_rule runs/ppo_reward_model --reward runs/reward_rule

The true reward behind the reward model is known here: positive words less negative ones
(`positivity`), so over-optimisation (Gao et al., arXiv 2210.10760) would be visible.

Seeds 0, 1 and 2 each depend on runs of the same seed (November 2026, jax 0.10.2). 40 steps of seed
2 took 61 s with compilation on two x86 cores shared with other work. The table has the positivity
of an answer to each of 2,000 held-out prompts, drawn at temperature 1, with its standard error; and
the reward model's score and the KL to `sft_rule` in nats per answer, means of the last five steps.

    step    seed 0         score   KL    seed 1         score   KL    seed 2         score   KL
       0    0.87 ± 0.04                  0.89 ± 0.04                  0.85 ± 0.04
      20    2.29 ± 0.02     1.41  2.5    2.75 ± 0.02     1.45  2.8    2.06 ± 0.02     1.33  2.3
      40    2.88 ± 0.02     1.46  1.8    3.05 ± 0.02     1.48  2.4    2.55 ± 0.02     1.35  1.5

The gains, with 95 % intervals, are 2.01, 2.15 and 1.70, each ±0.1. After step 20 the score hardly
rises but positivity does, so there is no over-optimisation here. Against `sft_rule` it wins 84 % of
200 pairs by the reward model (95 % interval 78 to 88). The best of 16 answers of `sft_rule` by
positivity itself has 3.31, at a KL of at most 1.8 nats.

Result:
    command: python -m genjax train ppo_reward_model
    data: generated reviews, rewarded by `reward_rule`, from `sft_rule`
    hardware: two x86 cores, shared (minutes of seed 2)
    minutes: 1
    seeds: 0, 1, 2
    metric: positive words less negative ones, answers to 2,000 held-out prompts
    value: 2.88, 3.05, 2.55
    error: 0.02
    baseline: 0.87, 0.89, 0.85 before
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.PPO(
            base="runs/sft_rule",
            reward_run="runs/reward_rule",
            new_tokens=48,
            longest_prompt=16,
            epochs=4,
            minibatches=4,
            kl=0.05,
            kl_target=6.0,
            kl_horizon=2_000,
        ),
        data=gx.RuleResponses(),
        optimizer=gx.Adam(gx.Linear(1e-3, 0.0), clip=1.0),
        steps=40,
        batch_size=128,
        evaluators=(gx.RewardOfSamples(gx.positivity, "positivity", steps=48),),
        every=gx.Every(log=5, evaluate=20, sample=40, checkpoint=40),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/sft_rule_tiny",
            "family.reward_run": "runs/reward_rule_tiny",
            "family.new_tokens": 8,
            "family.epochs": 2,
            "family.minibatches": 1,
            "data.size": 64,
            "data.test_size": 32,
            "steps": 4,
            "batch_size": 8,
            "evaluators.0.steps": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
