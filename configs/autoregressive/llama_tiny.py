"""A small Llama-style model (Touvron et al., arXiv 2302.13971) of the bytes of Python's docs.

    python -m genjax train llama_tiny

The text is Python's language reference. The net has rotary positions, RMS norm, SwiGLU, an untied
head and no biases. Queries form groups of two that share keys and values (Ainslie et al., arXiv
2305.13245). Chapters are packed into rows and do not see each other.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train llama_tiny
    data: Python's language reference, bytes, packed
    value: not yet run
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 128
    net = gx.Transformer(
        layers=4,
        heads=4,
        width=128,
        context=length,
        kv_heads=2,
        positions="rotary",
        norm="rms",
        activation="swiglu",
        biases=(),
        tied=False,
    )
    experiment = gx.Experiment(
        family=gx.Autoregressive(
            net, z_loss=1e-4, sampler=gx.Decoding(steps=length, temperature=0.8, min_p=0.05)
        ),
        data=gx.PythonDocs(codec=gx.Bytes(delimiter=True), layout=gx.Packed(length)),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(2e-3, 2e-4)), b2=0.95, weight_decay=0.1, clip=1.0
        ),
        steps=2000,
        batch_size=16,
        evaluators=(gx.LossByPosition(),),
        every=gx.Every(log=50, evaluate=500, sample=500, checkpoint=500),
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
            "family.net.kv_heads": 1,
            "family.sampler.steps": 16,
            "data.layout.length": 16,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
