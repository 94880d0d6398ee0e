"""A small GPT over the characters of Shakespeare's speeches, short ones first.

    python -m genjax train curriculum_shakespeare                        # short speeches first
    python -m genjax train curriculum_shakespeare --curriculum.order hard_first \
        --run-dir runs/long_first
    python -m genjax train curriculum_shakespeare --curriculum.pacing.start 1 \
        --run-dir runs/no_curriculum

A row is a speech, or a piece of up to 128 characters of a longer one. 11,349 rows train and 1,302
are held out, in whole speeches. The first step draws from the tenth of the rows with the fewest
characters, up to 25. From step 300 on, all rows may be drawn; in between, the share grows by
sqrt-competence (Platanios et al., arXiv 1903.09848). The net has 2 layers, 4 heads and a width of
64. It trains for 600 steps of 16 rows.

Nats per character on the held-out rows, mean and standard deviation of seeds 0, 1 and 2 (`--seed`;
rows "eval" of metrics.jsonl). A run took nearly 3 min on one x86 core shared with other work
(November 2026, jax 0.10.2):

    step               100           200           300           400           500           600
    easy first    2.550 ±0.001  2.440 ±0.008  2.377 ±0.009  2.319 ±0.015  2.274 ±0.020  2.246 ±0.019
    no curriculum 2.521 ±0.007  2.439 ±0.001  2.385 ±0.008  2.337 ±0.004  2.293 ±0.007  2.267 ±0.007
    hard first    2.522 ±0.004  2.437 ±0.004  2.384 ±0.006  2.334 ±0.010  2.289 ±0.016  2.260 ±0.015

Starting with short speeches costs 0.03 nats at first, but by the end it is ahead by 0.003, 0.032
and 0.026 nats on the same seeds. With three seeds this may be chance (t = 2.3, two degrees of
freedom, p = 0.15).

Result:
    command: python -m genjax train curriculum_shakespeare
    data: Shakespeare's speeches, characters, short ones first
    hardware: one x86 core, shared
    minutes: 3
    metric: nats per held-out character, mean and standard deviation of seeds 0, 1, 2
    value: 2.246
    error: 0.019
    baseline: 2.267±0.007 without a curriculum; p = 0.15

Result:
    command: python -m genjax train curriculum_shakespeare --curriculum.order hard_first
    data: Shakespeare's speeches, characters, long ones first
    hardware: one x86 core, shared
    minutes: 3
    metric: nats per held-out character, mean and standard deviation of seeds 0, 1, 2
    value: 2.260
    error: 0.015
    baseline: 2.267±0.007 without a curriculum
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 128
    net = gx.Transformer(layers=2, heads=4, width=64, context=length)
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=length)),
        data=gx.TextFiles(
            pattern="tinyshakespeare.txt",
            unit="paragraphs",
            codec=gx.Characters(delimiter=True),
            layout=gx.Documents(length),
            split=gx.ByDocuments(test=0.1),
        ),
        curriculum=gx.ByDifficulty(gx.TextLength(), gx.RootPacing(0.1, 300)),
        optimizer=gx.AdamW(gx.WarmUp(30, gx.Cosine(3e-3, 3e-4)), clip=1.0),
        steps=600,
        batch_size=16,
        every=gx.Every(log=50, evaluate=100, sample=600, checkpoint=600),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.net.context": 16,
            "family.sampler.steps": 16,
            "data.layout.length": 16,
            "optimizer.learning_rate.warm_up": 2,
            "curriculum.pacing.steps": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
