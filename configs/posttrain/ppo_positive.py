"""PPO from a plain function: a small character model learns to praise.

    python -m genjax train ppo_positive        # trains gpt_reviews first where it is missing
    python -m genjax evaluate runs/ppo_positive
    python -m genjax sample runs/ppo_positive

The reward counts the positive words of a review less the negative ones. Nothing in it asks for sentences: what keeps
them is the penalty for leaving the model of reviews that the policy began as.

Seeds 0, 1, 2, each from a `gpt_reviews` of its own seed, November 2026, jax 0.10.2; 60 steps in 3 to 5 min on two x86
cores shared with other work, under 2 min of processor time. Positivity of answers to 500 held-out prompts, drawn at
temperature 1, with its standard error; KL in nats and letters of an answer, means of the last five steps

    step    seed 0             KL   length    seed 1             KL   length    seed 2             KL   length
       0    -0.04 +- 0.04     0               -0.11 +- 0.04     0                0.00 +- 0.04     0
      20     1.71 +- 0.03    14.0       41     1.48 +- 0.03    12.1       31     1.38 +- 0.03    13.3       33
      40     2.12 +- 0.03    14.1       45     2.23 +- 0.03    17.8       52     2.31 +- 0.04    17.0       48
      60     2.69 +- 0.04    18.4       64     2.80 +- 0.03    21.2       64     2.77 +- 0.04    20.9       64

The gains, with 95 % intervals: 2.72, 2.91, 2.77, each +-0.11. The samples are still sentences, which praise mostly with
"kind" and misspell words as `gpt_reviews` does. With a learning rate of 1e-3 the first steps went 69 nats away
(seed 0), and what was left after 20 steps were answers of three letters.
"""

import dataclasses

from genjax.data.chat.template import ChatTemplate
from genjax.data.sources import RuleResponses
from genjax.data.sources.rule_responses import positivity
from genjax.data.text.codecs import Characters
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.optim import Adam
from genjax.posttrain.ppo import PPO
from genjax.schedules import Linear

TEMPLATE = ChatTemplate((("user", "", "\n"), ("assistant", "", "\n")))


def get_config(tiny: bool = False) -> Experiment:
    data = RuleResponses(template=TEMPLATE, codec=Characters(delimiter=True), length=160)
    if tiny:
        data = dataclasses.replace(data, size=64, test_size=32)
    return Experiment(
        family=PPO(
            base="runs/gpt_reviews_tiny" if tiny else "runs/gpt_reviews",
            reward=positivity,
            new_tokens=16 if tiny else 140,
            longest_prompt=24,
            epochs=2,
            minibatches=1 if tiny else 4,
            kl=0.05,
        ),
        data=data,
        optimizer=Adam(Linear(3e-4, 0.0), clip=1.0),
        steps=4 if tiny else 60,
        batch_size=8 if tiny else 64,
        evaluators=(RewardOfSamples(positivity, "positivity", steps=16 if tiny else 140, limit=500),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(5, 20, 60, 60),
    )
