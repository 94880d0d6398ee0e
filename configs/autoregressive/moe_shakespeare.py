"""A mixture of experts over the characters of Shakespeare's plays, beside a dense net with as many
active parameters.

    python -m genjax train moe_shakespeare            # text/tinyshakespeare.txt of $GENJAX_DATA

Two of eight experts of width 128 in each of two layers: 0.30M parameters, of which a token takes
0.11M. The dense net is `multi_token_shakespeare --family.net.ahead 1`, with a feed-forward width of
256 and the same data, steps and optimizer.

One run of each, seed 0, on two 2.5 GHz x86 cores next to many other jobs (November 2026, jax
0.10.2): 1.878 nats per held-out character after 2,000 steps of 16 rows of 32, against 1.941 of the
dense net. The experts' loads stay nearly even: their entropy is 0.990 of that of even ones at the
end, and 0.97 at step 450. The runs took 63 and 33 s of processor time, 17 and 10 min beside the
other jobs.

Result:
    command: python -m genjax train moe_shakespeare
    data: Shakespeare's plays, characters
    hardware: two 2.5 GHz x86 cores, busy
    minutes: 17
    seeds: 0
    metric: nats per character over all of the held-out part
    value: 1.878
    baseline: 1.941 by a dense net with as many active parameters

Result:
    command: python -m genjax train moe_shakespeare
    data: Shakespeare's plays, characters
    hardware: two 2.5 GHz x86 cores, busy
    minutes: 17
    seeds: 0
    metric: entropy of the loads of the experts over that of even ones, held-out
    value: 0.990
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 32
    net = gx.Transformer(
        layers=2,
        heads=4,
        width=64,
        context=length,
        activation="gelu",
        biases=(),
        experts=gx.Experts(count=8, active=2, hidden=128),
    )
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=length)),
        data=gx.TextFiles(
            pattern="tinyshakespeare.txt",
            codec=gx.Characters(),
            layout=gx.RandomWindows(length),
            split=gx.ByCharacters(test=0.1),
        ),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(4e-3, 1e-4)), b1=0.9, b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=2000,
        batch_size=16,
        every=gx.Every(log=50, evaluate=1000, sample=2000, checkpoint=1000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.net.context": 8,
            "family.net.experts.count": 4,
            "family.net.experts.hidden": 16,
            "family.sampler.steps": 8,
            "data.layout.length": 8,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
