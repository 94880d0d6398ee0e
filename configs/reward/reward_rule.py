"""A reward model of generated responses; the true reward is positive words less negative ones.

    python -m genjax train reward_rule
    python -m genjax evaluate runs/reward_rule

250 steps took 55 s on two nearly idle x86 cores (jax 0.10.2, seed 0). Seeds 1 and 2 took 114 and
124 s next to other runs. Seeds 0, 1 and 2 rank 100 % of 1,000 held-out pairs correctly; choosing
the longer response is right in 47.7 %. They have 0.041, 0.046 and 0.092 nats and calibration errors
of 0.039, 0.042 and 0.079: the model is less confident than it is accurate. After 125 steps it was
99.9, 99.9 and 91.4 %.

Rewards of held-out responses correlate with the true ones by 0.990, 0.983 and 0.960, and with the
length by -0.006, -0.026 and -0.019. The scores of 1,000 training pairs have mean -0.04 and standard
deviation 1.00 (seed 0).

Result:
    command: python -m genjax train reward_rule
    data: generated preferences with a known rule
    hardware: two x86 cores, shared for seeds 1 and 2
    minutes: 0.9, 1.9, 2.1
    seeds: 0, 1, 2
    metric: accuracy, % of 1,000 held-out pairs
    value: 100, 100, 100
    baseline: 47.7 by choosing the longer response

Result:
    command: python -m genjax train reward_rule
    data: generated preferences with a known rule
    hardware: two x86 cores, shared for seeds 1 and 2
    minutes: 0.9, 1.9, 2.1
    seeds: 0, 1, 2
    metric: correlation of the rewards with the true ones, held-out responses
    value: 0.990, 0.983, 0.960
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=64, context=64)
    experiment = gx.Experiment(
        family=gx.RewardModel(gx.TokenBackbone(net, "last")),
        data=gx.RulePreferences(),
        optimizer=gx.AdamW(gx.WarmUp(25, gx.Linear(1e-3, 0.0)), weight_decay=0.01, clip=1.0),
        steps=250,
        batch_size=32,
        evaluators=(gx.PreferenceQuality(),),
        every=gx.Every(log=25, evaluate=125, sample=0, checkpoint=250),
        keep=gx.Keep(best="accuracy", larger_is_better=True),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.net.layers": 1,
            "family.net.net.heads": 2,
            "family.net.net.width": 16,
            "data.size": 64,
            "data.test_size": 32,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 8,
            "every": gx.Every(log=2, evaluate=4, sample=0, checkpoint=4),
        },
    )
