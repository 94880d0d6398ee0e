"""LoRA (Hu et al., arXiv 2106.09685): `gpt_books` goes on with a novel that it has not read, by adapters of rank 4.

    python -m genjax train lora_gpt                # trains gpt_books first where it is missing
    python -m genjax train finetune_gpt            # all parameters, for comparison
    python -m genjax sample runs/lora_gpt --prompt "My dear Watson" --num 4

52,480 parameters are trained, 4.8 % of 1,088,256. 150 steps in about 2 min on two busy x86 cores, November 2026, jax
0.10.2; held-out loss of the novel in nats a token, seeds 0 and 1: 3.832, 3.832, with all parameters (`finetune_gpt`)
3.779, 3.773, before 4.075. Without the table of tokens, norms and biases the gap is wider: at rank 4 and a learning
rate of 2e-3 3.910 after 100 of 600 steps, with all parameters 3.793. So it grows with the steps: the base is far from
its end, and what it still learns in general is not of low rank (300 of 600 steps, rank 4 with the table: 3.829, all
3.701).
"""

from genjax.data.sources import TextFiles
from genjax.data.text.layouts import RandomWindows
from genjax.data.text.splits import ByDocuments
from genjax.data.text.subwords import Subwords
from genjax.experiment import Every, Experiment
from genjax.optim import AdamW
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.lora import LoRA
from genjax.schedules import Linear, WarmUp


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=LoRA(
            base="runs/gpt_books_tiny" if tiny else "runs/gpt_books",
            adapters=Adapters(
                rank=2 if tiny else 4,
                targets=("attention/.*kernel", "feed_forward/.*kernel", "^embedding$"),
                whole=("norm", "bias"),
            ),
        ),
        data=TextFiles(
            pattern="books/the_adventures_of_sherlock_holmes.txt.gz",
            unit="paragraphs",
            codec=Subwords(),  # that of the base, as it has no vocabulary of its own
            layout=RandomWindows(16 if tiny else 128),
            split=ByDocuments(test=0.1),
        ),
        optimizer=AdamW(WarmUp(2 if tiny else 30, Linear(8e-3, 0.0)), weight_decay=0.0, clip=1.0),
        steps=4 if tiny else 150,
        batch_size=4 if tiny else 16,
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(25, 50, 150, 150),
    )
