"""A small GPT trained on paragraphs of four novels; configs in configs/posttrain start from it.

    python -m genjax train gpt_books              # text/books/*.txt.gz of $GENJAX_DATA
    python -m genjax sample runs/gpt_books --best --prompt "The prince looked at her" --num 2

The novels are Bleak House, Don Quixote, Middlemarch and War and Peace. The fifth book, about
Sherlock Holmes, is left for fine-tuning. Every twentieth paragraph is held out. A row has 128
tokens; there are 256 learned positions.

Seed 0 took 33 minutes on two x86 cores shared with other work (at most 4 steps per second). On the
held-out paragraphs the loss is 3.897 nats per token and 1.827 bits per byte at the last step, which
is the best. On as many training rows it is 3.872.

Result:
    command: python -m genjax train gpt_books
    data: four novels by the paragraph
    hardware: two x86 cores, shared
    minutes: 33
    seeds: 0
    metric: nats per token of held-out paragraphs
    value: 3.897

Result:
    command: python -m genjax train gpt_books
    data: four novels by the paragraph
    hardware: two x86 cores, shared
    minutes: 33
    seeds: 0
    metric: bits per byte of held-out paragraphs
    value: 1.827
"""

from genjax import gx

END = "<|endoftext|>"


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 128
    net = gx.Transformer(layers=4, heads=4, width=128, context=256, dropout=0.1)
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=length, temperature=0.8)),
        data=gx.TextFiles(
            pattern="books/[bdmw]*.txt.gz",
            unit="paragraphs",
            codec=gx.Subwords("bpe", 2048, (END,), start_token=END, end_token=END),
            layout=gx.RandomWindows(length),
            split=gx.ByDocuments(test=0.05),
        ),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(2e-3, 2e-4)), b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=3000,
        batch_size=16,
        evaluators=(gx.LossByPosition(), gx.GeneralisationGap(200)),
        every=gx.Every(log=50, evaluate=500, sample=1000, checkpoint=500),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.net.context": 64,
            "family.sampler.steps": 16,
            "data.codec.size": 300,
            "data.layout.length": 16,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
