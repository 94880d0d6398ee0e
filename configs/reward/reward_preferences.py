"""A reward model of 1,100 pairs of responses to instructions, fine-tuned from `gpt_books`.

    python -m genjax train reward_preferences     # instruct/preference_1100.json of $GENJAX_DATA
    python -m genjax train reward_preferences --start-from.run None \
        --run-dir runs/reward_preferences_from_scratch

The pairs are those of Raschka's "Build a Large Language Model (From Scratch)": polite responses
against impolite ones, to short instructions. In six pairs both responses are the same; these are
dropped.

200 steps (November 2026, jax 0.10.2, seed 0) rank 89.1 % of 110 held-out pairs correctly (standard
error 3.0 %), with 0.370 nats and a calibration error of 0.124. The accuracy is 92.6 % if the chosen
response is the longer one and 85.2 % if it is the shorter. From scratch it is 79.1 % (3.9 %), with
0.540 nats and a calibration error of 0.174. The longer response is the chosen one in half of the
pairs.

Result:
    command: python -m genjax train reward_preferences
    data: 1,094 pairs of polite and impolite answers
    seeds: 0
    metric: accuracy, % of 110 held-out pairs
    value: 89.1
    error: 3.0

Result:
    command: python -m genjax train reward_preferences --start-from.run None
    data: 1,094 pairs of polite and impolite answers
    seeds: 0
    metric: accuracy, % of 110 held-out pairs, from scratch
    value: 79.1
    error: 3.9
"""

from genjax import gx

END = "<|endoftext|>"


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=4, heads=4, width=128, context=256, dropout=0.1)
    experiment = gx.Experiment(
        family=gx.RewardModel(gx.TokenBackbone(net, "last")),
        data=gx.Preferences(
            codec=gx.Subwords("bpe", 2048, (END,), start_token=END, end_token=END),
            length=160,
            equal="drop",
        ),
        optimizer=gx.AdamW(gx.WarmUp(20, gx.Linear(2e-4, 0.0)), weight_decay=0.01, clip=1.0),
        steps=200,
        batch_size=16,
        evaluators=(gx.PreferenceQuality(),),
        every=gx.Every(log=10, evaluate=50, sample=0, checkpoint=200),
        keep=gx.Keep(best="accuracy", larger_is_better=True),
        start_from=gx.StartFrom(
            "runs/gpt_books",
            (("^", "backbone/tokens/"),),
        ),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.net.layers": 1,
            "family.net.net.heads": 2,
            "family.net.net.width": 16,
            "data.codec.size": 300,
            "data.length": 256,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=0, checkpoint=4),
            "start_from.run": "runs/gpt_books_tiny",
            # The context of the tiny gpt_books is shorter.
            "start_from.reshape": ("position_embedding$",),
        },
    )
