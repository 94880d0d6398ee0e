"""A small GPT that writes synthetic reviews letter by letter: the start of `ppo_positive`.

    python -m genjax train gpt_reviews
    python -m genjax evaluate runs/gpt_reviews

There are 5,400 reviews of up to 161 letters. 400 steps took about 5 min on two x86 cores shared
with other work, 1.5 min of it CPU time (November 2026, jax 0.10.2). Seeds 0, 1 and 2 have 0.292,
0.306 and 0.306 nats per letter on held-out responses. On average 500 answers have -0.04, -0.11 and
0.00 more positive than negative words, each ±0.04.

Result:
    command: python -m genjax train gpt_reviews
    data: generated reviews, characters
    hardware: two x86 cores, shared
    minutes: 5
    seeds: 0, 1, 2
    metric: nats per letter of held-out responses
    value: 0.292, 0.306, 0.306

Result:
    command: python -m genjax train gpt_reviews
    data: generated reviews, characters
    hardware: two x86 cores, shared
    minutes: 5
    seeds: 0, 1, 2
    metric: positive words less negative ones, 500 answers
    value: -0.04, -0.11, 0.00
    error: 0.04
"""

from genjax import gx

TEMPLATE = gx.ChatTemplate((("user", "", "\n"), ("assistant", "", "\n")))


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=64, context=192)
    data = gx.RuleResponses(template=TEMPLATE, codec=gx.Characters(delimiter=True), length=160)
    answers = gx.Decoding(steps=140, prompts=("How was the hotel?", "How was the train?"))
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=answers),
        data=data,
        optimizer=gx.AdamW(gx.WarmUp(40, gx.Linear(3e-3, 0.0)), clip=1.0),
        steps=400,
        batch_size=32,
        evaluators=(gx.RewardOfSamples(gx.positivity, "positivity", steps=140, limit=500),),
        every=gx.Every(log=25, evaluate=200, sample=400, checkpoint=400),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.sampler.steps": 16,
            "data.size": 64,
            "data.test_size": 32,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 8,
            "evaluators.0.steps": 16,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
