"""The small GPT of `gpt_rule` learns from the well-scored responses of a store of records.

    python -m genjax train sft_from_store      # makes the store and trains gpt_rule if missing
    python -m genjax evaluate runs/sft_from_store
    python -m genjax show runs/sft_from_store --lineage

The store is `runs/rule_talk.db`: 1,000 generated pairs of reviews, each review with the score of a
rule. Those with a score above 0 are used for training, and a snapshot of them is kept in the run
directory.

100 steps took 1.5 minutes on two x86 cores shared with much other work (November 2026, jax 0.10.2).

Result:
    command: python -m genjax train sft_from_store
    data: reviews in a store with a score above 0, from `gpt_rule`
    hardware: two x86 cores, shared
    minutes: 1.5
    seeds: 0
    metric: positive words less negative ones, answers to 116 held-out prompts
    value: 1.22
    error: 0.12
"""

from genjax import gx
from genjax.store.training.examples import RuleTalk
from genjax.store.training.sources import StoreInstructions


def get_config(tiny: bool = False) -> gx.Experiment:
    net = gx.Transformer(layers=2, heads=4, width=64, context=64)
    answers = gx.Decoding(steps=48, prompts=("How was the hotel?", "How was the train?"))
    experiment = gx.Experiment(
        family=gx.Autoregressive(net, sampler=answers),
        data=StoreInstructions(
            "runs/rule_talk.db",
            filter="score.positivity>0",
            origin="any",
            make=RuleTalk(),
            codec=gx.Words(),
            length=64,
        ),
        optimizer=gx.AdamW(gx.WarmUp(10, gx.Linear(1e-3, 0.0)), clip=1.0),
        steps=100,
        batch_size=32,
        evaluators=(gx.RewardOfSamples(gx.positivity, "positivity", steps=48),),
        every=gx.Every(log=10, evaluate=50, sample=100, checkpoint=100),
        start_from=gx.StartFrom("runs/gpt_rule"),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.net.layers": 1,
            "family.net.heads": 2,
            "family.net.width": 16,
            "family.sampler.steps": 8,
            "data.url": "runs/rule_talk_tiny.db",
            "data.make.size": 64,
            "optimizer.learning_rate.warm_up": 2,
            "steps": 4,
            "batch_size": 8,
            "evaluators.0.steps": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
            "start_from.run": "runs/gpt_rule_tiny",
        },
    )
