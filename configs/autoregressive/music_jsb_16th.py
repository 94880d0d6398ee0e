"""Bach's chorales in sixteenths, four tokens each: soprano, bass, alto, tenor.

    python -m genjax train music_jsb_16th        # music/jsb_16th_separated.json.gz of $GENJAX_DATA
    python -m genjax evaluate runs/music_jsb_16th --split test
    python -m genjax sample runs/music_jsb_16th --num 4
    python -m genjax sample runs/music_jsb_16th --num 4 --sampler.melody FILE.mid

The command with TonicNet's chord token, five tokens a sixteenth, is in docs/music.md.

Samples are MIDI and WAV files and piano rolls. A token knows its voice and its place in the quarter
and in four quarters by learned phases (``periods``), other distances by rotary positions. Training
pieces are transposed by -5 to 6 semitones where all their notes stay within 36 to 81, the range of
the data.

Published: TonicNet (Peracha, arXiv 1911.11775), 0.317 to 0.328 nats a token on the validation
pieces as its checkpoints are named, five tokens a sixteenth with the chord: 1.59 to 1.64 a step. A
chord follows from its notes, so nats a step (``nll_per_step``) compare both protocols, and four
tokens without the chord would have to reach 0.396 to 0.41 each.

Seed 0, stopped after 600 of 3,600 steps on a machine shared with other work, has 0.591 nats a token
(four a sixteenth, and the end of each piece) on the validation pieces and 0.615 on the test pieces,
2.45 a sixteenth there; it guesses 81.5 % of the tokens. That is not yet near the published figure:
the rate of learning had fallen by a sixth only, and the loss was still falling. Its voice leading
was that of a beginner: per 100 chords of 8 samples 3.8 parallel fifths, 4.4 parallel octaves and 15
crossed voices, where the test pieces have 0.25, 0.08 and 2.4. No sample shared more than two chords
in a row with a training piece; test pieces do six.

Result:
    command: python -m genjax train music_jsb_16th
    data: Bach's chorales in sixteenths, four voices
    metric: nats per token of the validation pieces, four tokens a sixteenth
    value: not yet run
    published: 0.317 to 0.328 (TonicNet, with a fifth token for the chord, arXiv 1911.11775)
    reason: stopped after 600 of 3,600 steps at 0.591; the whole takes some 30 minutes of a core
"""

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
