"""The small GPT of novels learns to answer instructions: supervised fine-tuning on 1,100 records.

    python -m genjax train gpt_books
    python -m genjax train sft_instructions              # instruct/instruction_data_1100.json of $GENJAX_DATA
    python -m genjax sample runs/sft_instructions --best --prompt "Name a colour of the rainbow." --num 2
    python -m genjax train sft_instructions --start-from.run None --run-dir runs/sft_from_scratch

Nothing but answers and their ends is predicted; a tenth of the records is held out. Of 2,048 tokens of the novels every
conversation takes at most 129, so that none is left out.

Seed 0, two x86 cores shared with other work, 6.2 minutes for 300 steps: on the answers to 110 held-out instructions a
loss of 2.815 nats a token and 1.777 bits a byte at the last step, which is the best. The model of the novels alone has
5.370 and 3.389.
"""

import dataclasses

from genjax.data.sources import Instructions
from genjax.data.text.subwords import Subwords
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Linear, WarmUp
from genjax.start_from import StartFrom

END = "<|endoftext|>"


def get_config(tiny: bool = False) -> Experiment:
    net = Transformer(layers=4, heads=4, width=128, context=256, dropout=0.1)
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16)
    asked = "Say yes." if tiny else "Rewrite the sentence in the past tense: She walks to school."
    sampler = Decoding(steps=16 if tiny else 64, temperature=0.5, prompt=asked, stop=("### Instruction",))
    return Experiment(
        family=Autoregressive(net, sampler=sampler),
        data=Instructions(
            codec=Subwords("bpe", 300 if tiny else 2048, (END,), start_token=END, end_token=END),
            length=63 if tiny else 128,
            packed=True,
        ),
        optimizer=AdamW(WarmUp(2 if tiny else 20, Linear(1e-3, 0.0)), b2=0.99, weight_decay=0.1, clip=1.0),
        steps=4 if tiny else 300,
        batch_size=4 if tiny else 16,
        evaluators=(GeneralisationGap(100),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(25, 50, 100, 50),
        start_from=StartFrom(
            "runs/gpt_books_tiny" if tiny else "runs/gpt_books",
            reshape=("position_embedding$",) if tiny else (),  # that one has a shorter context
        ),
    )
