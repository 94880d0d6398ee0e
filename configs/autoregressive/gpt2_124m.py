"""GPT-2 of 124M parameters (Radford et al., 2019) from scratch over a folder of your own text files.

    python -m genjax train gpt2_124m --data.root texts
    python -m genjax train gpt2_124m --data.root texts --data.codec.file tokenizer.json

Without a tokenizer.json of Hugging Face's a byte-level BPE of GPT-2's size, 256 bytes, 50,000 merges and one end, is
trained on the texts; small ones give fewer merges. Documents are packed into rows of 1,024 and do not see each other.
480 rows a step, half a million tokens, in microbatches of 12; AdamW 6e-4 to 6e-5 by a cosine, betas 0.9 and 0.95,
weight decay 0.1 on matrices, clip 1. 20,000 steps are 10 billion tokens: take fewer (--steps) of less text.

Networks compute in bfloat16. cuDNN's attention knows no packed rows, so it is "blocked", whose memory does not grow
with the square of the length. Layers are scanned, which compiles once for all twelve; for a GPU of little memory there
are --family.net.remat products and a higher --optimizer.accumulate.

Not yet run: only its tiny form has, on a CPU.
"""

import dataclasses

from genjax.data.sources import TextFiles
from genjax.data.text.layouts import Packed
from genjax.data.text.splits import ByCharacters
from genjax.data.text.subwords import Subwords
from genjax.evaluation.text.positions import LossByPosition
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    length = 16 if tiny else 1024
    net = Transformer(layers=12, heads=12, width=768, context=length, attention="blocked", scan_layers=True)
    if tiny:
        net = dataclasses.replace(net, layers=2, heads=2, width=16)
    return Experiment(
        family=Autoregressive(net, chunk=32 if tiny else 4096, sampler=Decoding(steps=length, top_k=50)),
        data=TextFiles(
            pattern="**/*.txt",
            codec=Subwords(size=300 if tiny else 50_257),
            layout=Packed(length),
            split=ByCharacters(test=0.01),
        ),
        optimizer=AdamW(
            WarmUp(2 if tiny else 700, Cosine(6e-4, 6e-5)),
            b1=0.9,
            b2=0.95,
            weight_decay=0.1,
            clip=1.0,
            accumulate=2 if tiny else 40,
        ),
        steps=4 if tiny else 20_000,
        batch_size=4 if tiny else 480,
        precision="bfloat16",
        evaluators=(LossByPosition(),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(10, 250, 1000, 250),
    )
