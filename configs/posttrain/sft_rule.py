"""The small GPT of `gpt_rule` learns to answer prompts as the better half of the reviews does.

    python -m genjax train sft_rule            # trains gpt_rule first where it is missing
    python -m genjax evaluate runs/sft_rule

100 steps in 22 s on two x86 cores shared with other work, November 2026, jax 0.10.2. Positive words less negative ones
in an answer to each of 1,000 held-out prompts, seeds 0, 1, 2: 0.87, 0.89, 0.85, each +-0.04; the reviews that it learns
from have 0.85, all reviews 0.
"""

import dataclasses

from genjax.data.sources import RuleResponses
from genjax.data.sources.rule_responses import positivity
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Linear, WarmUp
from genjax.start_from import StartFrom


def get_config(tiny: bool = False) -> Experiment:
    net = Transformer(layers=2, heads=4, width=64, context=64)
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16)
    answers = Decoding(steps=8 if tiny else 48, prompts=("How was the hotel?", "How was the train?"))
    return Experiment(
        family=Autoregressive(net, sampler=answers),
        data=RuleResponses(64, 32, which="chosen") if tiny else RuleResponses(which="chosen"),
        optimizer=AdamW(WarmUp(2 if tiny else 10, Linear(1e-3, 0.0)), clip=1.0),
        steps=4 if tiny else 100,
        batch_size=8 if tiny else 32,
        evaluators=(RewardOfSamples(positivity, "positivity", steps=8 if tiny else 48),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(10, 50, 100, 100),
        start_from=StartFrom("runs/gpt_rule_tiny" if tiny else "runs/gpt_rule"),
    )
