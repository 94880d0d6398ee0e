"""A quarter of `gpt_arithmetic` learns from what it says of the student's own answers (GKD)."""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=32, context=16)
    asked = ("12+7", "80+55", "99+99", "0+4", "36+48", "5+97", "61+22", "73+29")
    experiment = gx.Experiment(
        family=gx.OnPolicyDistillation(
            teacher="runs/gpt_arithmetic",
            student=gx.Autoregressive(net, sampler=gx.Decoding(steps=5, prompts=asked)),
            weight=1.0,
            beta=1.0,
            on_policy=0.5,
            longest_prompt=7,
            new_tokens=5,
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
