"""GPT-2 with 124M parameters (Radford et al., 2019), from scratch on a folder of your own texts.

    python -m genjax train gpt2_124m_gpu --data.root texts
    python -m genjax train gpt2_124m_gpu --data.root texts --data.codec.file tokenizer.json

Without a tokenizer.json of Hugging Face, a byte-level BPE of GPT-2's size is trained on the texts:
256 bytes, 50,000 merges and one end token. Small texts give fewer merges. Documents are packed into
rows of 1,024 tokens and do not see each other.

A step has 480 rows, half a million tokens, in microbatches of 12. AdamW goes from 6e-4 to 6e-5 by a
cosine, with betas 0.9 and 0.95, weight decay 0.1 on matrices and clip 1. 20,000 steps are 10
billion tokens; with less text, use fewer (`--steps`).

Networks compute in bfloat16. Attention takes the kernel of the GPU or TPU that knows packed rows,
or else goes block by block; in either, memory is not quadratic in the length. Layers are scanned,
so that one compilation serves all twelve. For a GPU with little memory there are
`--family.net.remat products` and a higher `--optimizer.accumulate`.

By its plan a microbatch needs 13.5 GB of an H200 and the run at least 4 hours; one TPU v5e 13.8
GB and 27 hours, eight of them with `--devices.mode sharded --devices.fsdp 8 --optimizer.accumulate
5` 12.7 GB each (docs/plans.md). Only the tiny form has been run, on a CPU. A smaller GPT on books
is `gpt_books`.

Result:
    command: python -m genjax train gpt2_124m_gpu --data.root texts
    data: text files of your own, BPE, packed, half a million tokens per step
    value: not yet run
    planned: h200
    sibling: gpt_books
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 1024
    net = gx.Transformer(layers=12, heads=12, width=768, context=length, scan_layers=True)
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, chunk=4096, sampler=gx.Decoding(steps=length, top_k=50)),
        data=gx.TextFiles(
            pattern="**/*.txt",
            codec=gx.Subwords(size=50_257),
            layout=gx.Packed(length),
            split=gx.ByCharacters(test=0.01),
        ),
        optimizer=gx.AdamW(
            gx.WarmUp(700, gx.Cosine(6e-4, 6e-5)),
            b1=0.9,
            b2=0.95,
            weight_decay=0.1,
            clip=1.0,
            accumulate=40,
        ),
        steps=20_000,
        batch_size=480,
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
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.net.context": 16,
            "family.chunk": 32,
            "family.sampler.steps": 16,
            "data.codec.size": 300,
            "data.layout.length": 16,
            "optimizer.learning_rate.warm_up": 2,
            "optimizer.accumulate": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
