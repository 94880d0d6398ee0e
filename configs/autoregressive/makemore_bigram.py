"""A table of which letter follows which over 32,033 first names, trained to the law of the counts.

    python -m genjax train makemore_bigram            # text/names.txt of $GENJAX_DATA
    python -m genjax evaluate runs/makemore_bigram --split train

All names train, as in Karpathy's makemore, where the counts give 2.4540 nats a letter over their 228,146 pairs, one
symbol standing before and after every name: the least that any table reaches.

Measured after 1,000 steps, seed 0, over all pairs: 2.45405 nats a letter, where the counts give 2.45401; 24 steps a
second on a share of one CPU core.
"""

from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByCharacters
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.bigram import Bigram
from genjax.optim import Adam
from genjax.schedules import Linear


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Autoregressive(Bigram(), sampler=Decoding(steps=16)),
        data=TextFiles(
            pattern="names.txt",
            unit="lines",
            codec=Characters(delimiter=True),
            layout=Documents(16),
            split=ByCharacters(test=0.0),
        ),
        optimizer=Adam(Linear(0.3, 0.0)),
        steps=4 if tiny else 1000,
        batch_size=8 if tiny else 2048,
        every=Every(log=2, evaluate=0, sample=4, checkpoint=4) if tiny else Every(100, 0, 500, 500),
    )
