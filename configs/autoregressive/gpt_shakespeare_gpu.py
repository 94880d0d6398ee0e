"""GPT over the characters of Shakespeare's plays, by the published protocol of nanoGPT for one GPU.

    python -m genjax train gpt_shakespeare_gpu        # text/tinyshakespeare.txt of $GENJAX_DATA
    python -m genjax evaluate runs/gpt_shakespeare_gpu --best

The net has 6 layers, 6 heads, a width of 384, a context of 256, no biases, dropout 0.2 and 10.65M
parameters. AdamW goes from 1e-3 to 1e-4 by a cosine after 100 steps of warm-up, with betas 0.9 and
0.99, weight decay 0.1 on matrices and clip 1. It trains for 5,000 steps of 64 rows in bfloat16 on
the first 90 % of the raw file. The net overfits, so the best step on the held-out rest is used.
Published: 1.4697 nats per character, about 3 minutes on one A100 (nanoGPT's README).

By its plan a step needs 2.6 GB of an H200, and the run at least 19 s; of one TPU v5e 2.1 GB and 2.9
minutes. Only the tiny form has been run, on a CPU. There a step of the full config takes some 200
times as long as one of `gpt_shakespeare_char`, which follows nanoGPT's protocol for a CPU.

Result:
    command: python -m genjax train gpt_shakespeare_gpu
    data: Shakespeare's plays, characters, nanoGPT's protocol for one GPU
    metric: nats per held-out character
    value: not yet run
    published: 1.4697 (nanoGPT's README)
    planned: h200
    sibling: gpt_shakespeare_char
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 256
    net = gx.Transformer(
        layers=6,
        heads=6,
        width=384,
        context=length,
        activation="gelu",
        biases=(),
        dropout=0.2,
        attention_dropout=0.2,
    )
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, chunk=16_384, sampler=gx.Decoding(steps=length)),
        data=gx.TextFiles(
            pattern="tinyshakespeare.txt",
            codec=gx.Characters(),
            layout=gx.RandomWindows(length),
            split=gx.ByCharacters(test=0.1),
        ),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(1e-3, 1e-4)), b1=0.9, b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=5000,
        batch_size=64,
        precision="bfloat16",
        evaluators=(gx.LossByPosition(),),
        every=gx.Every(log=50, evaluate=250, sample=1000, checkpoint=250),
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
            "family.chunk": 64,
            "family.sampler.steps": 8,
            "data.layout.length": 8,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
