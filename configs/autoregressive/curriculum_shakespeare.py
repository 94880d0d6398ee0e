"""A small GPT over the characters of Shakespeare's speeches, short ones first.

    python -m genjax train curriculum_shakespeare                                      # by length, easy first
    python -m genjax train curriculum_shakespeare --curriculum.order hard_first --run-dir runs/long_first
    python -m genjax train curriculum_shakespeare --curriculum.pacing.start 1 --run-dir runs/no_curriculum

A row is a speech, or a piece of up to 128 characters of a longer one; 11,349 of them train, 1,302 are held out, whole
speeches each. The tenth of the rows with the fewest characters, up to 25, may be drawn at the first step, all from step
300 on, in between sqrt-competence (Platanios et al., arXiv 1903.09848). 2 layers, 4 heads, 64 wide; 600 steps of 16.

Nats a character on the held-out rows, mean and standard deviation of seeds 0, 1 and 2 (`--seed`; rows "eval" of
metrics.jsonl); November 2026, jax 0.10.2, one x86 core shared with other work, nearly 3 min a run:

    step                 100           200           300           400           500           600
    easy first      2.550 ±0.001  2.440 ±0.008  2.377 ±0.009  2.319 ±0.015  2.274 ±0.020  2.246 ±0.019
    no curriculum   2.521 ±0.007  2.439 ±0.001  2.385 ±0.008  2.337 ±0.004  2.293 ±0.007  2.267 ±0.007
    hard first      2.522 ±0.004  2.437 ±0.004  2.384 ±0.006  2.334 ±0.010  2.289 ±0.016  2.260 ±0.015

Short speeches first cost 0.03 nats at the start. At the end they are 0.003, 0.032 and 0.026 ahead on the same seeds,
too little for three seeds to tell a gain from chance (t = 2.3, two degrees of freedom, p = 0.15).
"""

from genjax.data.order.curriculum import ByDifficulty
from genjax.data.order.difficulty import TextLength
from genjax.data.order.pacing import RootPacing
from genjax.data.sources import TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents
from genjax.data.text.splits import ByDocuments
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    length = 16 if tiny else 128
    net = Transformer(layers=1 if tiny else 2, heads=2 if tiny else 4, width=16 if tiny else 64, context=length)
    return Experiment(
        family=Autoregressive(net, sampler=Decoding(steps=length)),
        data=TextFiles(
            pattern="tinyshakespeare.txt",
            unit="paragraphs",
            codec=Characters(delimiter=True),
            layout=Documents(length),
            split=ByDocuments(test=0.1),
        ),
        curriculum=ByDifficulty(TextLength(), RootPacing(0.1, 2 if tiny else 300)),
        optimizer=AdamW(WarmUp(2 if tiny else 30, Cosine(3e-3, 3e-4)), clip=1.0),
        steps=4 if tiny else 600,
        batch_size=4 if tiny else 16,
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, 100, 600, 600),
    )
