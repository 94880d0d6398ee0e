"""A reward model of generated responses, whose true reward counts positive words less negative ones.

    python -m genjax train reward_rule
    python -m genjax evaluate runs/reward_rule

250 steps in 55 s on two x86 cores that had little else to do, jax 0.10.2, seed 0; seeds 1 and 2 beside other runs in
114 and 124 s. Seeds 0, 1, 2: 100 % of 1,000 held-out pairs, where taking the longer response is right in 47.7 %; 0.041,
0.046, 0.092 nats, calibration error 0.039, 0.042, 0.079: it is right more often than it says. After 125 steps it was
99.9, 99.9, 91.4 %. Rewards of held-out responses correlate with the true ones by 0.990, 0.983, 0.960, with the length
by -0.006, -0.026, -0.019. Scores of 1,000 training pairs have mean -0.04 and standard deviation 1.00 (seed 0).
"""

import dataclasses

from genjax.data.sources import RulePreferences
from genjax.evaluation.text.preference_quality import PreferenceQuality
from genjax.experiment import Every, Experiment, Keep
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.posttrain.reward import RewardModel
from genjax.schedules import Linear, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    net = Transformer(layers=2, heads=4, width=64, context=64)
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16)
    return Experiment(
        family=RewardModel(TokenBackbone(net, "last")),
        data=RulePreferences(64, 32) if tiny else RulePreferences(),
        optimizer=AdamW(WarmUp(2 if tiny else 25, Linear(1e-3, 0.0)), weight_decay=0.01, clip=1.0),
        steps=4 if tiny else 250,
        batch_size=8 if tiny else 32,
        evaluators=(PreferenceQuality(),),
        every=Every(log=2, evaluate=4, sample=0, checkpoint=4) if tiny else Every(25, 125, 0, 250),
        keep=Keep(best="accuracy", larger_is_better=True),
    )
