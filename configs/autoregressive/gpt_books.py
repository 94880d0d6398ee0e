"""A small GPT of four novels by the paragraph: what the configs of configs/posttrain start from.

    python -m genjax train gpt_books              # text/books/*.txt.gz of $GENJAX_DATA
    python -m genjax sample runs/gpt_books --best --prompt "The prince looked at her" --num 2

Bleak House, Don Quixote, Middlemarch and War and Peace; the fifth book, about Sherlock Holmes, is left for others to
fine-tune on. Every twentieth paragraph is held out. A row is of 128 tokens; the table of positions has room for 256.

Seed 0, two x86 cores shared with other work, 33 minutes (4 steps a second at their freest): on the held-out paragraphs
a loss of 3.897 nats a token and 1.827 bits a byte at the last step, which is the best; on as many training rows 3.872.
"""

import dataclasses

from genjax.data.sources import TextFiles
from genjax.data.text.layouts import RandomWindows
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.evaluation.text.positions import LossByPosition
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp

END = "<|endoftext|>"


def get_config(tiny: bool = False) -> Experiment:
    length = 16 if tiny else 128
    net = Transformer(layers=4, heads=4, width=128, context=256, dropout=0.1)
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16, context=64)
    return Experiment(
        family=Autoregressive(net, sampler=Decoding(steps=length, temperature=0.8)),
        data=TextFiles(
            pattern="books/[bdmw]*.txt.gz",
            unit="paragraphs",
            codec=Subwords("bpe", 300 if tiny else 2048, (END,), start_token=END, end_token=END),
            layout=RandomWindows(length),
            split=ByDocuments(test=0.05),
        ),
        optimizer=AdamW(WarmUp(2 if tiny else 100, Cosine(2e-3, 2e-4)), b2=0.99, weight_decay=0.1, clip=1.0),
        steps=4 if tiny else 3000,
        batch_size=4 if tiny else 16,
        evaluators=(LossByPosition(), GeneralisationGap(200)),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 500, 1000, 500),
    )
