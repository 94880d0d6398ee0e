"""GPT over the characters of Shakespeare's plays, by the published protocol of nanoGPT for one GPU.

    python -m genjax train gpt_shakespeare_gpu        # text/tinyshakespeare.txt of $GENJAX_DATA
    python -m genjax evaluate runs/gpt_shakespeare_gpu --best

6 layers, 6 heads, 384 wide, context 256, no biases, dropout 0.2, 10.65M parameters; AdamW 1e-3 to 1e-4 by a cosine
after 100 steps of warm-up, betas 0.9 and 0.99, weight decay 0.1 on matrices, clip 1; 5,000 steps of 64 rows, computed
in bfloat16. The first 90 % of the raw file train; the best step on the rest is taken, as it overfits. Published: 1.4697
nats a character, about 3 minutes on one A100 (nanoGPT's README).

Not yet run: only its tiny form has, on a CPU. There a whole step is some 200 times that of ``gpt_shakespeare_char``.
"""

import dataclasses

from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import RandomWindows
from genjax.data.text.splits import ByCharacters
from genjax.evaluation.text.positions import LossByPosition
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    length = 8 if tiny else 256
    net = Transformer(
        layers=6,
        heads=6,
        width=384,
        context=length,
        activation="gelu",
        biases=(),
        dropout=0.2,
        attention_dropout=0.2,
    )
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16)
    return Experiment(
        family=Autoregressive(net, chunk=64 if tiny else 16_384, sampler=Decoding(steps=length)),
        data=TextFiles(
            pattern="tinyshakespeare.txt",
            codec=Characters(),
            layout=RandomWindows(length),
            split=ByCharacters(test=0.1),
        ),
        optimizer=AdamW(WarmUp(2 if tiny else 100, Cosine(1e-3, 1e-4)), b1=0.9, b2=0.99, weight_decay=0.1, clip=1.0),
        steps=4 if tiny else 5000,
        batch_size=4 if tiny else 64,
        precision="bfloat16",
        evaluators=(LossByPosition(),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 250, 1000, 250),
    )
