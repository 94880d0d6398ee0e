"""PPO from a plain function: a small character model learns to praise.

    python -m genjax train ppo_positive        # trains gpt_reviews first where it is missing
    python -m genjax evaluate runs/ppo_positive
    python -m genjax sample runs/ppo_positive

The reward counts the positive words of a review less the negative ones. Nothing in it asks for sentences: what keeps
them is the penalty for leaving the model of reviews that the policy began as.
"""

import dataclasses

from genjax.data.chat import ChatTemplate
from genjax.data.sources import RuleResponses
from genjax.data.sources.rule_responses import positivity
from genjax.data.text_codecs import Characters
from genjax.evaluation.reward_of_samples import RewardOfSamples
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
            kl=0.05,
        ),
        data=data,
        optimizer=Adam(Linear(3e-4, 0.0), clip=1.0),
        steps=4 if tiny else 60,
        batch_size=8 if tiny else 64,
        evaluators=(RewardOfSamples(positivity, "positivity", steps=16 if tiny else 140, limit=500),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(5, 20, 60, 60),
    )
