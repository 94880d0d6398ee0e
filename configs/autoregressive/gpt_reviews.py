"""A small GPT writes generated reviews letter by letter: where `ppo_positive` begins.

    python -m genjax train gpt_reviews
    python -m genjax evaluate runs/gpt_reviews

Reviews of up to 161 letters, 5,400 of them. 400 steps, November 2026, jax 0.10.2, about 5 min on two x86 cores shared
with other work, a minute and a half of it processor time. Seeds 0, 1, 2: 0.292, 0.306, 0.306 nats a letter on held-out
responses, and in 500 answers -0.04, -0.11, 0.00 positive words more than negative ones, each +-0.04.
"""

import dataclasses

from genjax.data.chat.template import ChatTemplate
from genjax.data.sources import RuleResponses
from genjax.data.sources.rule_responses import positivity
from genjax.data.text.codecs import Characters
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Linear, WarmUp

TEMPLATE = ChatTemplate((("user", "", "\n"), ("assistant", "", "\n")))


def get_config(tiny: bool = False) -> Experiment:
    net = Transformer(layers=2, heads=4, width=64, context=192)
    data = RuleResponses(template=TEMPLATE, codec=Characters(delimiter=True), length=160)
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16)
        data = dataclasses.replace(data, size=64, test_size=32)
    answers = Decoding(steps=16 if tiny else 140, prompts=("How was the hotel?", "How was the train?"))
    return Experiment(
        family=Autoregressive(net, sampler=answers),
        data=data,
        optimizer=AdamW(WarmUp(2 if tiny else 40, Linear(3e-3, 0.0)), clip=1.0),
        steps=4 if tiny else 400,
        batch_size=8 if tiny else 32,
        evaluators=(RewardOfSamples(positivity, "positivity", steps=16 if tiny else 140, limit=500),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(25, 200, 400, 400),
    )
