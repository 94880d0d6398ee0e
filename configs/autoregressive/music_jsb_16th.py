"""Bach's chorales in sixteenths, four voices."""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    length = 1024
    net = gx.Transformer(
        layers=3,
        heads=4,
        width=128,
        context=length,
        positions="rotary",
        periods=(4, 16, 64),
        norm="rms",
        qk_norm=True,
        activation="relu2",
        biases=(),
        dropout=0.1,
        attention="blocked",
    )
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Harmonising(steps=1024)),
        data=gx.ChoraleVoices(layout=gx.Packed(length)),
        optimizer=gx.Muon(
            gx.WarmUp(40, gx.Linear(0.0088, 0.0)), adam_rate=3e-3 / 0.0088, b2=0.99, clip=1.0
        ),
        augment=(gx.Transposition(down=5, up=6, highest=47),),
        steps=1500,
        batch_size=2,
        every=gx.Every(log=25, evaluate=250, sample=1500, checkpoint=100),
    )
    if not tiny:
        return experiment
    return experiment
