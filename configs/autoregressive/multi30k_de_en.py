"""German to English by an encoder and a decoder, by a published protocol for Multi30k.

    python -m genjax train multi30k_de_en             # multi30k/task1 of $GENJAX_DATA
    python -m genjax evaluate runs/multi30k_de_en --best --split test
    python -m genjax sample runs/multi30k_de_en --best --sampler.source "ein mann steht an einem strand." --num 1

3 and 3 layers, 8 heads, 256 wide, feed-forward 512, post-norm, dropout 0.1, 100 learned positions; Adam at a constant
5e-4, clip 1, batches of 128 pairs, 10 epochs, of which the best on the validation sentences is taken; words in lower
case that come twice, greedy translations. Published: 9.04M parameters, perplexity 5.316 on the 2016 test sentences.
The perplexity is that of English tokens, the end of each sentence among them: exp of the ``loss``.

Otherwise than there words are split by a rule of our own and not by spaCy, which makes 7,882 German and 5,900 English
ones of 7,853 and 5,893; with those this net has the 9,038,341 parameters of the original. Weights begin normal with a
deviation of 0.02, embeddings are not scaled, the hidden units of the feed-forward are not dropped. Pairs are packed
into rows, 32 of which hold 128.3 pairs on average; padded to the longest a step takes nearly three times as long.

Seed 0, about 1.5 hours of one 2.5 GHz x86 core: after seven epochs, the best on the validation sentences, the 1,000
sentences of test2016 have perplexity 5.148 (a loss of 1.63863) and greedy BLEU 37.69 of words as the codec has them
(published 36.52); sacreBLEU 36.36 (13a, lower case), chrF 56.8.
"""

import dataclasses

from genjax.data.sources import SentencePairs
from genjax.evaluation.text.translation import TranslationQuality
from genjax.experiment import Every, Experiment
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.request import Decoding
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Adam
from genjax.schedules import Constant

EPOCH = 226  # steps: the 29,000 pairs fill 7,231 rows


def get_config(tiny: bool = False) -> Experiment:
    net = Transformer(
        layers=3,
        heads=8,
        width=256,
        context=100,
        hidden=512,
        norm_first=False,
        activation="relu",
        biases=("attention", "mix", "feed_forward", "norm", "head"),
        tied=False,
        dropout=0.1,
        attention_dropout=0.1,
    )
    if tiny:
        net = dataclasses.replace(net, layers=1, heads=2, width=16, hidden=32)
    asked = "ein mann in einem blauen hemd steht auf einer leiter und putzt ein fenster."
    return Experiment(
        family=Autoregressive(net, chunk=2048, sampler=Decoding(steps=63, temperature=0.0, source=asked)),
        data=SentencePairs(source_length=64, length=63, packed=True),
        optimizer=Adam(Constant(5e-4), clip=1.0),
        steps=4 if tiny else 10 * EPOCH,
        batch_size=4 if tiny else 32,
        evaluators=(TranslationQuality(8 if tiny else None, while_training=False),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(50, EPOCH, EPOCH, EPOCH),
    )
