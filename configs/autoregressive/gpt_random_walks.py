"""A small GPT imitates random walks on a graph: where `ppo_random_walks` begins.

    python -m genjax train gpt_random_walks
    python -m genjax evaluate runs/gpt_random_walks

1,000 walks of at most 10 of 21 nodes on the graph of trlX's task (seed 1000, edge probability 0.1).

Seeds 0, 1, 2, two x86 cores shared with other work, 300 steps in 36, 32 and 28 s: 0.783, 0.787, 0.781 nats a node on
400 held-out walks, and an optimality of 0.332, 0.318, 0.299, each +-0.02, of walks drawn from every start, 20 each. The
training walks have 0.328.
"""

import dataclasses

from genjax.data.sources import RandomWalks
from genjax.data.sources.random_walks import optimality
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Linear, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    net = Transformer(layers=2, heads=4, width=64, context=16)
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16)
    return Experiment(
        family=Autoregressive(net, sampler=Decoding(steps=10, prompts=tuple("bcdefghijklmnopqrstu"))),
        data=RandomWalks(),
        optimizer=AdamW(WarmUp(2 if tiny else 20, Linear(2e-3, 0.0)), clip=1.0),
        steps=4 if tiny else 300,
        batch_size=8 if tiny else 100,
        evaluators=(RewardOfSamples(optimality, "optimality", steps=9),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 100, 300, 300),
    )
