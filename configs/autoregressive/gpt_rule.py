"""A small GPT trained on synthetic reviews: the first stage on the way from pre-training to PPO.

    python -m genjax train gpt_rule
    python -m genjax train sft_rule            # answers prompts like the authors of better reviews
    python -m genjax train reward_rule         # learns which of two reviews is better
    python -m genjax train ppo_reward_model    # learns from the scores of the reward model
    python -m genjax compare runs/sft_rule runs/ppo_reward_model --reward runs/reward_rule

200 steps took 28 s on two x86 cores shared with other work (November 2026, jax 0.10.2). The
held-out loss is 0.706 nats per word, prompts and template included (seed 0).

Result:
    command: python -m genjax train gpt_rule
    data: generated reviews, word by word
    hardware: two x86 cores, shared
    minutes: 0.47
    seeds: 0
    metric: nats per word of held-out reviews, prompts and template included
    value: 0.706
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=64, context=64)
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=64)),
        data=gx.RuleResponses(prompted=False),
        optimizer=gx.AdamW(gx.WarmUp(20, gx.Linear(2e-3, 0.0)), clip=1.0),
        steps=200,
        batch_size=32,
        every=gx.Every(log=20, evaluate=100, sample=200, checkpoint=200),
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
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
