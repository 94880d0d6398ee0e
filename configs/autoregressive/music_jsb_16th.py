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
        attention="blocked",
    )
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Harmonising(steps=1024)),
        data=gx.ChoraleVoices(layout=gx.Packed(length)),
        optimizer=gx.Muon(
            gx.WarmUp(50, gx.Linear(0.0088, 0.0)), adam_rate=3e-3 / 0.0088, b2=0.99, clip=1.0
        ),
        augment=(gx.Transposition(down=5, up=6, highest=47),),
        steps=3600,
        batch_size=1,
        evaluators=(
            gx.VoiceLikelihood(while_training=False),
            gx.VoiceLeading(while_training=False),
            gx.MusicMemorisation(while_training=False),
        ),
        every=gx.Every(log=100, evaluate=600, sample=3600, checkpoint=200),
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
            "data.layout.length": 64,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 2,
            "evaluators.1.samples": 2,
            "evaluators.2.samples": 2,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
