"""A quarter of `gpt_arithmetic` learns from its predictions (Hinton et al., arXiv 1503.02531).

    python -m genjax train distil_arithmetic   # trains gpt_arithmetic first if missing
    python -m genjax evaluate runs/distil_arithmetic

The student has half the width of its teacher, 26,000 parameters, and reads the same sums, three in
ten of them wrong. Its loss is the KL from teacher to student alone. Seed 0, from a
`gpt_arithmetic` of seed 0 that is right in 0.592 of the held-out sums with a loss of 0.172 nats
per token on right answers: after 500 and 1,000 steps the share of right answers was 0.105 and
0.209, the loss 0.676 and 0.481. The student alone (`--family.weight 0`) has 0.066 and 0.196, and
0.787 and 0.493: it learns faster from the teacher at first, and at 1,000 steps the difference is
within the error. 1,000 steps took 43 s of CPU time, 6 minutes on a crowded machine (November 2026,
jax 0.10.2).

Result:
    command: python -m genjax train distil_arithmetic
    data: generated sums, three in ten wrong, from `gpt_arithmetic`
    hardware: one 2.5 GHz x86 core, busy (minutes of CPU time)
    minutes: 0.7
    seeds: 0
    metric: share of right answers to 1,000 held-out sums
    value: 0.209
    error: 0.013
    baseline: 0.196 by the student alone, 0.592 by the teacher
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=32, context=16)
    asked = ("12+7", "80+55", "99+99", "0+4", "36+48", "5+97", "61+22", "73+29")
    experiment = gx.Experiment(
        family=gx.Distillation(
            teacher="runs/gpt_arithmetic",
            student=gx.Autoregressive(net, sampler=gx.Decoding(steps=5, prompts=asked)),
            weight=1.0,
        ),
        data=gx.Arithmetic(operations="+", size=8_000, wrong=0.3),
        optimizer=gx.AdamW(gx.WarmUp(50, gx.Linear(3e-3, 0.0)), clip=1.0),
        steps=1_000,
        batch_size=128,
        evaluators=(gx.RewardOfSamples(gx.correct, "correct", steps=5),),
        every=gx.Every(log=100, evaluate=500, sample=1_000, checkpoint=1_000),
    )
    return gx.replace_fields(experiment, TINY) if tiny else experiment


TINY = {
    "family.teacher": "runs/gpt_arithmetic_tiny",
    "family.student.net.layers": 1,
    "family.student.net.heads": 2,
    "family.student.net.width": 16,
    "optimizer.learning_rate.warm_up": 2,
    "steps": 4,
    "batch_size": 8,
    "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
}
