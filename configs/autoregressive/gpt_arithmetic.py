"""A small GPT imitates answers to sums, of which three in ten are wrong: where `grpo_arithmetic` begins.

    python -m genjax train gpt_arithmetic
    python -m genjax evaluate runs/gpt_arithmetic

8,000 of the 10,000 sums of two numbers of up to two digits, a character a token; an answer is off by 1 to 9 with
probability 0.3, so that a perfect imitation is right with probability 0.7. 1,000 other sums are held out.

Seeds 0, 1, 2, two x86 cores shared with much other work, 2,000 steps in 482, 242 and 152 s: of the held-out sums, an
answer to each drawn at temperature 1, 0.586, 0.545, 0.591 are right, each +-0.016; 0.422, 0.289, 0.369 after 1,000
steps. The loss of the right answers is 0.167, 0.184, 0.168 nats a token.
"""

import dataclasses

from genjax.data.sources import Arithmetic
from genjax.data.sources.arithmetic import correct
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
    asked = ("12+7", "80+55", "99+99", "0+4", "36+48", "5+97", "61+22", "73+29")
    return Experiment(
        family=Autoregressive(net, sampler=Decoding(steps=5, prompts=asked)),
        data=Arithmetic(operations="+", size=8_000, wrong=0.3),
        optimizer=AdamW(WarmUp(2 if tiny else 50, Linear(3e-3, 0.0)), clip=1.0),
        steps=4 if tiny else 2_000,
        batch_size=8 if tiny else 128,
        evaluators=(RewardOfSamples(correct, "correct", steps=5),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(200, 1_000, 2_000, 2_000),
    )
