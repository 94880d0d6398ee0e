"""A masked diffusion (MDLM, arXiv 2406.07524) of the characters of Shakespeare's plays."""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 32
    net = gx.Transformer(
        layers=2,
        heads=4,
        width=64,
        context=length + 1,
        causal=False,
        activation="gelu",
        biases=(),
    )
    experiment = gx.Experiment(
        family=gx.MaskedDiffusion(net, "counts", sampler=gx.Unmasking(length=length, steps=length)),
        data=gx.TextFiles(
            pattern="tinyshakespeare.txt",
            codec=gx.Characters(),
            layout=gx.RandomWindows(length),
            split=gx.ByCharacters(test=0.1),
        ),
        optimizer=gx.AdamW(
            gx.WarmUp(100, gx.Cosine(4e-3, 1e-4)), b1=0.9, b2=0.99, weight_decay=0.1, clip=1.0
        ),
        steps=6000,
        batch_size=16,
        every=gx.Every(log=200, evaluate=1000, sample=3000, checkpoint=3000),
    )
    return gx.replace_fields(experiment, TINY) if tiny else experiment


TINY = {
    "family.net.layers": 1,
    "family.net.heads": 2,
    "family.net.width": 16,
    "family.net.context": 9,
    "family.sampler.length": 8,
    "family.sampler.steps": 4,
    "data.layout.length": 8,
    "optimizer.learning_rate.warm_up": 2,
    "steps": 4,
    "batch_size": 4,
    "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
}
