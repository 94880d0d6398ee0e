"""A small GPT that imitates random walks on a graph: the start of `ppo_random_walks`.

    python -m genjax train gpt_random_walks
    python -m genjax evaluate runs/gpt_random_walks

There are 1,000 walks of at most 10 nodes on the 21 nodes of the graph of trlX's task (seed 1000,
edge probability 0.1).

Seeds 0, 1 and 2 took 36, 32 and 28 s for 300 steps on two x86 cores shared with other work. Their
loss on 400 held-out walks is 0.783, 0.787 and 0.781 nats per node. Walks drawn from every start, 20
each, have an optimality of 0.332, 0.318 and 0.299, each ±0.02; the training walks have 0.328.

Result:
    command: python -m genjax train gpt_random_walks
    data: trlX's random walks
    hardware: two x86 cores, shared
    minutes: 0.6, 0.53, 0.47
    seeds: 0, 1, 2
    metric: nats per node of 400 held-out walks
    value: 0.783, 0.787, 0.781

Result:
    command: python -m genjax train gpt_random_walks
    data: trlX's random walks
    hardware: two x86 cores, shared
    minutes: 0.6, 0.53, 0.47
    seeds: 0, 1, 2
    metric: optimality of drawn walks
    value: 0.332, 0.318, 0.299
    error: 0.02
    baseline: 0.328 of the training walks
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=64, context=16)
    experiment = gx.Experiment(
        family=gx.Autoregressive(
            net, sampler=gx.Decoding(steps=10, prompts=tuple("bcdefghijklmnopqrstu"))
        ),
        data=gx.RandomWalks(),
        optimizer=gx.AdamW(gx.WarmUp(20, gx.Linear(2e-3, 0.0)), clip=1.0),
        steps=300,
        batch_size=100,
        evaluators=(gx.RewardOfSamples(gx.optimality, "optimality", steps=9),),
        every=gx.Every(log=50, evaluate=100, sample=300, checkpoint=300),
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
