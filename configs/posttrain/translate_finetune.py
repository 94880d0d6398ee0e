"""The small GPT of English novels learns to translate from German: fine-tuning on Multi30k.

    python -m genjax train gpt_books
    python -m genjax train translate_finetune          # multi30k/task1 of $GENJAX_DATA
    python -m genjax evaluate runs/translate_finetune --best --split test
    python -m genjax sample runs/translate_finetune --best --num 1 \
        --prompt "Translate to English: Ein Hund schläft."

The model is decoder-only. A pair is a conversation: the sentence after "Translate to English:", and
its translation as the answer. The tokens are those of the novels, which spell German in small
pieces. Rows of 255 predictions hold every pair of all three parts.

The config has not yet been trained to its end. Only its tiny form has run.

Result:
    command: python -m genjax train translate_finetune
    data: Multi30k as instructions, from `gpt_books`
    value: not yet run
"""

from genjax import gx

END = "<|endoftext|>"
EPOCH = 743  # steps: the 29,000 pairs fill 11,890 rows
SHORT = gx.ChatTemplate((("user", "", "\n"), ("assistant", "", "\n")))


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=4, heads=4, width=128, context=256, dropout=0.1)
    data = gx.TextPairs(
        codec=gx.Subwords("bpe", 2048, (END,), start_token=END, end_token=END),
        length=255,
        packed=True,
    )
    asked = data.prompt.format(source="Ein Mann in einem blauen Hemd steht auf einer Leiter.")
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=64, temperature=0.0, prompt=asked)),
        data=data,
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(1e-3, 0.0)), b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=5 * EPOCH,
        batch_size=16,
        evaluators=(gx.TranslationQuality(None, while_training=False),),
        every=gx.Every(log=50, evaluate=EPOCH, sample=EPOCH, checkpoint=EPOCH),
        start_from=gx.StartFrom("runs/gpt_books"),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.net.context": 64,
            "family.sampler.steps": 16,
            "family.sampler.prompt": "Ein Hund.",
            "data.train": "val",
            "data.validation": None,
            "data.prompt": "{source}",
            "data.template": gx.ChatTemplate((("user", "", "\n"), ("assistant", "", "\n"))),
            "data.codec.size": 300,
            "data.length": 63,
            "data.long": "cut",
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "evaluators.0.limit": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "start_from.run": "runs/gpt_books_tiny",
        },
    )
