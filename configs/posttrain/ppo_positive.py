"""PPO with a function as the reward: a small character model learns to praise.

    python -m genjax train ppo_positive        # trains gpt_reviews first if missing
    python -m genjax evaluate runs/ppo_positive
    python -m genjax sample runs/ppo_positive

The reward is the number of positive words of a review less the number of negative ones. It does not
ask for sentences; they are preserved by the KL penalty to the model of reviews that the policy
starts from.

Seeds 0, 1 and 2 each start from a `gpt_reviews` of the same seed (November 2026, jax 0.10.2). 60
steps took 3 to 5 min on two x86 cores shared with other work, under 2 min of it CPU time. The table
has the positivity of answers to 500 held-out prompts, drawn at temperature 1, with its standard
error; and the KL in nats and the letters of an answer, means of the last five steps.

    step        seed 0    KL  length        seed 1    KL  length        seed 2    KL  length
       0  -0.04 ± 0.04     0          -0.11 ± 0.04     0           0.00 ± 0.04     0
      20   1.71 ± 0.03  14.0      41   1.48 ± 0.03  12.1      31   1.38 ± 0.03  13.3      33
      40   2.12 ± 0.03  14.1      45   2.23 ± 0.03  17.8      52   2.31 ± 0.04  17.0      48
      60   2.69 ± 0.04  18.4      64   2.80 ± 0.03  21.2      64   2.77 ± 0.04  20.9      64

The gains, with 95 % intervals, are 2.72, 2.91 and 2.77, each ±0.11. The samples are still
sentences. They praise mostly with "kind" and misspell words as `gpt_reviews` does. With a learning
rate of 1e-3 the KL reached 69 nats in the first steps (seed 0), and after 20 steps only answers of
three letters were left.

Result:
    command: python -m genjax train ppo_positive
    data: generated reviews, rewarded by a function, from `gpt_reviews`
    hardware: two x86 cores, shared
    minutes: 3 to 5
    seeds: 0, 1, 2
    metric: positive words less negative ones, answers to 500 held-out prompts
    value: 2.69, 2.80, 2.77
    error: 0.04, 0.03, 0.04
    baseline: -0.04, -0.11, 0.00 before
"""

from genjax import gx

TEMPLATE = gx.ChatTemplate((("user", "", "\n"), ("assistant", "", "\n")))


def get_config(tiny: bool = False) -> gx.Experiment:
    data = gx.RuleResponses(template=TEMPLATE, codec=gx.Characters(delimiter=True), length=160)
    experiment = gx.Experiment(
        family=gx.PPO(
            base="runs/gpt_reviews",
            reward=gx.positivity,
            new_tokens=140,
            longest_prompt=24,
            epochs=2,
            minibatches=4,
            kl=0.05,
        ),
        data=data,
        optimizer=gx.Adam(gx.Linear(3e-4, 0.0), clip=1.0),
        steps=60,
        batch_size=64,
        evaluators=(gx.RewardOfSamples(gx.positivity, "positivity", steps=140, limit=500),),
        every=gx.Every(log=5, evaluate=20, sample=60, checkpoint=60),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/gpt_reviews_tiny",
            "family.new_tokens": 16,
            "family.minibatches": 1,
            "data.size": 64,
            "data.test_size": 32,
            "steps": 4,
            "batch_size": 8,
            "evaluators.0.steps": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
