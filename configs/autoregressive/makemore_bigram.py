"""A table of letter bigrams in 32,033 first names, trained to the optimum.

    python -m genjax train makemore_bigram            # text/names.txt of $GENJAX_DATA
    python -m genjax evaluate runs/makemore_bigram --split train

All names train, as in Karpathy's makemore. There the counts give 2.4540 nats per letter over their
228,146 pairs, with one symbol before and after every name. No table can do better.

After 1,000 steps, seed 0 has 2.45405 nats per letter over all pairs, where the counts give 2.45401.
It ran at 24 steps per second on part of one CPU core.

Result:
    command: python -m genjax train makemore_bigram
    data: 32,033 first names, a table; all of them train
    hardware: one CPU core, shared
    seeds: 0
    metric: nats per letter over all names, which are the training names
    value: 2.45405
    baseline: 2.45401 by the counts
    published: 2.4540 by the counts (makemore)
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Autoregressive(gx.Bigram(), sampler=gx.Decoding(steps=16)),
        data=gx.TextFiles(
            pattern="names.txt",
            unit="lines",
            codec=gx.Characters(delimiter=True),
            layout=gx.Documents(16),
            split=gx.ByCharacters(test=0.0),
        ),
        optimizer=gx.Adam(gx.Linear(0.3, 0.0)),
        steps=1000,
        batch_size=2048,
        every=gx.Every(log=100, evaluate=0, sample=500, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "steps": 4,
            "batch_size": 8,
            "every": gx.Every(log=2, evaluate=0, sample=4, checkpoint=4),
        },
    )
