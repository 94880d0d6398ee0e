"""A Llama of 1.1B parameters (TinyLlama, Zhang et al., arXiv 2401.02385) on a folder of your texts.

    python -m genjax train llama_1b_gpu --data.root texts --data.codec.file tokenizer.json \
        --devices.mode sharded --devices.fsdp 64 --devices.tensor 4 --optimizer.accumulate 1

The net has TinyLlama's sizes: 22 layers, a width of 2,048, 32 heads that share 4 keys and values, a
feed-forward of 5,632 and 32,000 tokens. Without a tokenizer.json of Hugging Face, a byte-level BPE
of at most that size is trained on the texts. Documents are packed into rows of 2,048 tokens and do
not see each other.

A step has 1,024 rows, two million tokens, as the paper's. AdamW goes from 4e-4 to 4e-5 by a cosine
after 2,000 steps, with betas 0.9 and 0.95, weight decay 0.1 on matrices and clip 1. 10,500 steps
are 22 billion tokens, 20 for each parameter (Hoffmann et al., arXiv 2203.15556); the paper trains
on 3 trillion. Layers are scanned and recompute all but products for their gradient. With the
options above it is for a TPU v5e of 16 x 16 chips.

By its plan each of these chips needs 12.6 of its 16.8 GB, and the run at least 3.5 hours (at the
roofline); each of eight H200, with `--devices.fsdp 8 --optimizer.accumulate 16`, 26.6 GB and 6.6
hours (docs/plans.md). Only the tiny form has been run, on a CPU.

Result:
    command: python -m genjax train llama_1b_gpu --data.root texts
    data: text files of your own, BPE, packed, two million tokens per step
    value: not yet run
    planned: v5e:16x16
    sibling: llama_tiny
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length, vocabulary = 2048, 32_000
    net = gx.Transformer(
        layers=22,
        heads=32,
        width=2048,
        context=length,
        kv_heads=4,
        hidden=5632,
        positions="rotary",
        norm="rms",
        activation="swiglu",
        biases=(),
        tied=False,
        scan_layers=True,
        remat="products",
    )
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, chunk=4096, sampler=gx.Decoding(steps=length, top_p=0.95)),
        data=gx.TextFiles(
            pattern="**/*.txt",
            codec=gx.Subwords(size=vocabulary, rows=vocabulary),
            layout=gx.Packed(length),
            split=gx.ByCharacters(test=0.01),
        ),
        optimizer=gx.AdamW(
            gx.WarmUp(2000, gx.Cosine(4e-4, 4e-5)),
            b1=0.9,
            b2=0.95,
            weight_decay=0.1,
            clip=1.0,
            accumulate=128,
        ),
        steps=10_500,
        batch_size=1024,
        precision="bfloat16",
        evaluators=(gx.LossByPosition(),),
        every=gx.Every(log=10, evaluate=250, sample=1000, checkpoint=250),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 2,
            "family.net.heads": 4,
            "family.net.kv_heads": 2,
            "family.net.width": 16,
            "family.net.hidden": 24,
            "family.net.context": 16,
            "family.chunk": 32,
            "family.sampler.steps": 16,
            "data.codec.size": 300,
            "data.codec.rows": 300,
            "data.layout.length": 16,
            "optimizer.learning_rate.warm_up": 2,
            "optimizer.accumulate": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
