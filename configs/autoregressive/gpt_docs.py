"""A small GPT over the characters of Python's language reference, which ships with Python: no download.

    python -m genjax train gpt_docs
    python -m genjax sample runs/gpt_docs --prompt "The for statement" --num 2

Chapters are held out whole. Each release of Python has its own text, so numbers compare within one.

Not yet trained to its end: only its tiny form has run.
"""

import dataclasses

from genjax.data.sources import PythonDocs
from genjax.data.text.layouts import RandomWindows
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.evaluation.text.diversity import TextDiversity
from genjax.evaluation.text.domains import DomainPerplexity
from genjax.evaluation.text.memorisation import TextMemorisation
from genjax.evaluation.text.positions import LossByPosition
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    length = 16 if tiny else 128
    net = Transformer(layers=4, heads=4, width=128, context=length, dropout=0.1)
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16)
    return Experiment(
        family=Autoregressive(net, sampler=Decoding(steps=length, temperature=0.8)),
        data=PythonDocs(layout=RandomWindows(length)),
        optimizer=AdamW(WarmUp(2 if tiny else 100, Cosine(2e-3, 2e-4)), b2=0.99, weight_decay=0.1, clip=1.0),
        steps=4 if tiny else 2000,
        batch_size=4 if tiny else 16,
        evaluators=(
            LossByPosition(),
            GeneralisationGap(200),
            DomainPerplexity(200),
            TextDiversity(8 if tiny else 100, while_training=False),
            TextMemorisation(
                samples=8 if tiny else 100,
                rows=20 if tiny else 300,
                prefix=length // 4,
                size=length // 4,
                while_training=False,
            ),
        ),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 500, 500, 500),
    )
