"""Three letters predict the next one of a first name: the perceptron of Bengio et al., 2003, as in Karpathy's makemore.

    python -m genjax train makemore_mlp               # text/names.txt of $GENJAX_DATA
    python -m genjax evaluate runs/makemore_mlp --split test

Embeddings of 10, 200 tanh units, 11,897 parameters. 200,000 steps of SGD at 0.1, from the middle on at 0.01. The names
are split 80/10/10, here by a permutation of our own. The published net sees 32 letters a step, drawn from all names;
here it is five whole names, which are 36 letters on average. Published: 2.105 nats a letter on the validation names
(Karpathy's lectures).

Measured, seed 0: 2.1027 nats a letter on the validation names, 2.1038 on the test names (3,203 each), after 2.4 minutes
at 1,950 steps a second on half of a 2.5 GHz x86 core.
"""

from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.ngram_mlp import NgramMLP
from genjax.optim import SGD
from genjax.schedules import Piecewise


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=Autoregressive(NgramMLP(past=3, width=10, hidden=16 if tiny else 200), sampler=Decoding(steps=16)),
        data=TextFiles(
            pattern="names.txt",
            unit="lines",
            codec=Characters(delimiter=True),
            layout=Documents(16),
            split=ByDocuments(test=0.1, validation=0.1),
        ),
        optimizer=SGD(Piecewise((0.1, 0.01), (2 if tiny else 100_000,))),
        steps=4 if tiny else 200_000,
        batch_size=5,
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(10_000, 50_000, 100_000, 50_000),
        steps_per_dispatch=1 if tiny else 500,
    )
