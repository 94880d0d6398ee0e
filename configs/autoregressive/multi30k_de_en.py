"""An encoder-decoder that translates German to English, by a published protocol for Multi30k.

    python -m genjax train multi30k_de_en             # multi30k/task1 of $GENJAX_DATA
    python -m genjax evaluate runs/multi30k_de_en --best --split test
    python -m genjax sample runs/multi30k_de_en --best --num 1 \
        --sampler.source "ein mann steht an einem strand."

Both halves have 3 layers, 8 heads, a width of 256, feed-forward 512, post-norm, dropout 0.1 and 100
learned positions. Adam trains at a constant 5e-4 with clip 1, in batches of 128 pairs, for 10
epochs; the best epoch on the validation sentences is used. Words are lower-cased and occur at least
twice; decoding is greedy. Published: 9.04M parameters, perplexity 5.316 and BLEU 36.52 on the 2016
test sentences (github.com/bentrevett/pytorch-seq2seq). The perplexity is that of English tokens
with the end of each sentence: exp of the ``loss``.

Four things differ from the published code:
- Words are split by our own rule, not by spaCy, which gives 7,882 German and 5,900 English words
  instead of 7,853 and 5,893. With the latter numbers this net has the 9,038,341 parameters of the
  original.
- Weights are initialised from a normal distribution with standard deviation 0.02.
- Embeddings are not scaled, and the hidden layer of the feed-forward has no dropout.
- Pairs are packed into rows; 32 rows hold 128.3 pairs on average. Padded to the longest pair, a
  step takes nearly three times as long.

Seed 0 took about 1.5 hours of one 2.5 GHz x86 core. Epoch seven was the best on the validation
sentences. On the 1,000 sentences of test2016 it has perplexity 5.148 (a loss of 1.63863) and BLEU
37.69 on the codec's words (published 36.52). sacreBLEU is 36.36 (13a, lower case) and chrF 56.8.

Result:
    command: python -m genjax train multi30k_de_en
    data: Multi30k, German to English
    hardware: one 2.5 GHz x86 core
    minutes: 90
    seeds: 0
    metric: perplexity on test2016
    value: 5.148
    published: 5.316 (github.com/bentrevett/pytorch-seq2seq)

Result:
    command: python -m genjax train multi30k_de_en
    data: Multi30k, German to English
    hardware: one 2.5 GHz x86 core
    minutes: 90
    seeds: 0
    metric: BLEU of words on test2016, greedy
    value: 37.69
    published: 36.52 (github.com/bentrevett/pytorch-seq2seq)

Result:
    command: python -m genjax train multi30k_de_en
    data: Multi30k, German to English
    hardware: one 2.5 GHz x86 core
    minutes: 90
    seeds: 0
    metric: sacreBLEU on test2016, greedy, 13a, lower case
    value: 36.36
"""

from genjax import gx

EPOCH = 226  # steps: the 29,000 pairs fill 7,231 rows


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(
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
    asked = "ein mann in einem blauen hemd steht auf einer leiter und putzt ein fenster."
    experiment = gx.Experiment(
        family=gx.Autoregressive(
            net, chunk=2048, sampler=gx.Decoding(steps=63, temperature=0.0, source=asked)
        ),
        data=gx.SentencePairs(source_length=64, length=63, packed=True),
        optimizer=gx.Adam(gx.Constant(5e-4), clip=1.0),
        steps=10 * EPOCH,
        batch_size=32,
        evaluators=(gx.TranslationQuality(None, while_training=False),),
        every=gx.Every(log=50, evaluate=EPOCH, sample=EPOCH, checkpoint=EPOCH),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.net.hidden": 32,
            "steps": 4,
            "batch_size": 4,
            "evaluators.0.limit": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
