"""The small GPT of English novels learns to translate from German: a decoder alone, fine-tuned on Multi30k.

    python -m genjax train gpt_books
    python -m genjax train translate_finetune          # multi30k/task1 of $GENJAX_DATA
    python -m genjax evaluate runs/translate_finetune --best --split test
    python -m genjax sample runs/translate_finetune --best --prompt "Translate to English: Ein Hund schläft." --num 1

A pair is a conversation: the sentence after "Translate to English:", and its translation as the answer. The tokens are
those of the novels, which spell German in small pieces; rows of 255 predictions hold every pair of all three parts.

Not yet trained to its end: only its tiny form has run.
"""

import dataclasses

from genjax.data.chat.template import ChatTemplate
from genjax.data.sources import TextPairs
from genjax.data.text.subwords import Subwords
from genjax.evaluation.text.translation import TranslationQuality
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import AdamW
from genjax.schedules import Cosine, WarmUp
from genjax.start_from import StartFrom

END = "<|endoftext|>"
EPOCH = 743  # steps: the 29,000 pairs fill 11,890 rows
SHORT = ChatTemplate((("user", "", "\n"), ("assistant", "", "\n")))


def get_config(tiny: bool = False) -> Experiment:
    net = Transformer(layers=4, heads=4, width=128, context=256, dropout=0.1)
    data = TextPairs(
        codec=Subwords("bpe", 300 if tiny else 2048, (END,), start_token=END, end_token=END), length=255, packed=True
    )
    asked = data.prompt.format(source="Ein Mann in einem blauen Hemd steht auf einer Leiter.")
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16, context=64)
        data = dataclasses.replace(data, train="val", validation=None, length=63, prompt="{source}", template=SHORT)
        asked = "Ein Hund."
    return Experiment(
        family=Autoregressive(net, sampler=Decoding(steps=16 if tiny else 64, temperature=0.0, prompt=asked)),
        data=data,
        optimizer=AdamW(WarmUp(2 if tiny else 100, Cosine(1e-3, 0.0)), b2=0.99, weight_decay=0.1, clip=1.0),
        steps=4 if tiny else 5 * EPOCH,
        batch_size=4 if tiny else 16,
        evaluators=(TranslationQuality(8 if tiny else None, while_training=False),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, EPOCH, EPOCH, EPOCH),
        start_from=StartFrom("runs/gpt_books_tiny" if tiny else "runs/gpt_books"),
    )
