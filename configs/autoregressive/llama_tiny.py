"""A small model of Llama's kind (Touvron et al., arXiv 2302.13971) over the bytes of Python's language reference.

    python -m genjax train llama_tiny

Rotary positions, RMS norm, SwiGLU, an untied head, no biases, queries in groups of two that share keys and values
(Ainslie et al., arXiv 2305.13245). Chapters are packed into rows and do not see each other.

Not yet trained to its end: only its tiny form has run.
"""

import dataclasses

from genjax.data.sources import PythonDocs
from genjax.data.text.codecs import Bytes
from genjax.data.text.layouts import Packed
from genjax.evaluation.text.positions import LossByPosition
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    length = 16 if tiny else 256
    net = Transformer(
        layers=6,
        heads=6,
        width=192,
        context=length,
        kv_heads=3,
        positions="rotary",
        norm="rms",
        activation="swiglu",
        biases=(),
        tied=False,
    )
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, kv_heads=1, width=16)
    return Experiment(
        family=Autoregressive(net, z_loss=1e-4, sampler=Decoding(steps=length, temperature=0.8, min_p=0.05)),
        data=PythonDocs(codec=Bytes(delimiter=True), layout=Packed(length)),
        optimizer=AdamW(WarmUp(2 if tiny else 100, Cosine(1e-3, 1e-4)), b2=0.95, weight_decay=0.1, clip=1.0),
        steps=4 if tiny else 3000,
        batch_size=4 if tiny else 16,
        evaluators=(LossByPosition(),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 500, 500, 500),
    )
