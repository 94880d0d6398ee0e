"""PPO from a reward model's scores: the policy of `sft_rule` writes reviews that `reward_rule` prefers.

    python -m genjax train ppo_reward_model    # trains gpt_rule, sft_rule and reward_rule first where they are missing
    python -m genjax evaluate runs/ppo_reward_model
    python -m genjax compare runs/sft_rule runs/ppo_reward_model --reward runs/reward_rule

What the reward model learned to tell is known here, the positive words less the negative ones (`positivity`), so that
over-optimisation (Gao et al., arXiv 2210.10760) would be seen.

Seeds 0, 1, 2, each with runs of its own seed below it, November 2026, jax 0.10.2; 40 steps in 61 s with compiling on
two x86 cores shared with other work (seed 2). Positivity of an answer to each of 2,000 held-out prompts, drawn at
temperature 1, with its standard error; the reward model's score and the KL to `sft_rule` in nats an answer, means of
the last five steps

    step    seed 0            score   KL     seed 1            score   KL     seed 2            score   KL
       0    0.87 +- 0.04                     0.89 +- 0.04                     0.85 +- 0.04
      20    2.29 +- 0.02      1.41    2.5    2.75 +- 0.02      1.45    2.8    2.06 +- 0.02      1.33    2.3
      40    2.88 +- 0.02      1.46    1.8    3.05 +- 0.02      1.48    2.4    2.55 +- 0.02      1.35    1.5

The gains, with 95 % intervals: 2.01, 2.15, 1.70, each +-0.1. The score hardly rises after step 20, and positivity does:
nothing is over-optimised here. Beside `sft_rule` it wins 84 % of 200 pairs by the reward model (95 % interval 78 to
88); the best of 16 answers of `sft_rule` by positivity itself has 3.31, at most 1.8 nats away.
"""

from genjax.data.sources import RuleResponses
from genjax.data.sources.rule_responses import positivity
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment
from genjax.optim import Adam
from genjax.posttrain.ppo import PPO
from genjax.schedules import Linear


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=PPO(
            base="runs/sft_rule_tiny" if tiny else "runs/sft_rule",
            reward_run="runs/reward_rule_tiny" if tiny else "runs/reward_rule",
            new_tokens=8 if tiny else 48,
            longest_prompt=16,
            epochs=2 if tiny else 4,
            minibatches=1 if tiny else 4,
            kl=0.05,
            kl_target=6.0,
            kl_horizon=2_000,
        ),
        data=RuleResponses(64, 32) if tiny else RuleResponses(),
        optimizer=Adam(Linear(1e-3, 0.0), clip=1.0),
        steps=4 if tiny else 40,
        batch_size=8 if tiny else 128,
        evaluators=(RewardOfSamples(positivity, "positivity", steps=8 if tiny else 48),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(5, 20, 40, 40),
    )
