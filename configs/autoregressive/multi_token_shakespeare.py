"""Multi-token prediction over the characters of Shakespeare's plays: heads for the next four.

python -m genjax train multi_token_shakespeare    # text/tinyshakespeare.txt of $GENJAX_DATA
python -m genjax sample runs/multi_token_shakespeare --self-draft --temperature 0
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 32
    net = gx.Transformer(
        layers=2,
        heads=4,
        width=64,
        context=length,
        activation="gelu",
        biases=(),
        ahead=4,
    )
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=length)),
        data=gx.TextFiles(
            pattern="tinyshakespeare.txt",
            codec=gx.Characters(),
            layout=gx.RandomWindows(length),
            split=gx.ByCharacters(test=0.1),
        ),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(4e-3, 1e-4)), b1=0.9, b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=2000,
        batch_size=16,
        every=gx.Every(log=50, evaluate=1000, sample=2000, checkpoint=1000),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.net.context": 8,
            "family.net.ahead": 2,
            "family.sampler.steps": 8,
            "data.layout.length": 8,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 4,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
