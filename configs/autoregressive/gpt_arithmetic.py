"""A small GPT that imitates answers to sums, 30 % of them wrong: the start of `grpo_arithmetic`.

    python -m genjax train gpt_arithmetic
    python -m genjax evaluate runs/gpt_arithmetic

8,000 of the 10,000 sums of two numbers of up to two digits train, with one character a token. With
probability 0.3 an answer is off by 1 to 9, so a perfect imitation is right with probability 0.7.
1,000 other sums are held out.

Seeds 0, 1 and 2 took 482, 242 and 152 s for 2,000 steps on two x86 cores shared with much other
work. With one answer per held-out sum, drawn at temperature 1, the share of right answers is 0.586,
0.545 and 0.591, each ±0.016; after 1,000 steps it was 0.422, 0.289 and 0.369. The loss of the right
answers is 0.167, 0.184 and 0.168 nats per token.

Result:
    command: python -m genjax train gpt_arithmetic
    data: generated sums, three in ten wrong
    hardware: two x86 cores, shared
    minutes: 8.0, 4.0, 2.5
    seeds: 0, 1, 2
    metric: share of right answers to 1,000 held-out sums
    value: 0.586, 0.545, 0.591
    error: 0.016
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=64, context=16)
    asked = ("12+7", "80+55", "99+99", "0+4", "36+48", "5+97", "61+22", "73+29")
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=5, prompts=asked)),
        data=gx.Arithmetic(operations="+", size=8_000, wrong=0.3),
        optimizer=gx.AdamW(gx.WarmUp(50, gx.Linear(3e-3, 0.0)), clip=1.0),
        steps=2_000,
        batch_size=128,
        evaluators=(gx.RewardOfSamples(gx.correct, "correct", steps=5),),
        every=gx.Every(log=200, evaluate=1_000, sample=2_000, checkpoint=2_000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
