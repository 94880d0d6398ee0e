"""PPO from a reward model's scores: the policy of `sft_rule` writes reviews that `reward_rule` prefers.

    python -m genjax train ppo_reward_model    # trains gpt_rule, sft_rule and reward_rule first where they are missing
    python -m genjax evaluate runs/ppo_reward_model
    python -m genjax compare runs/sft_rule runs/ppo_reward_model --reward runs/reward_rule

What the reward model learned to tell is known here, the positive words less the negative ones (`positivity`), so that
over-optimisation (Gao et al., arXiv 2210.10760) would be seen.
"""

from genjax.data.sources import RuleResponses
from genjax.data.sources.rule_responses import positivity
from genjax.evaluation.reward_of_samples import RewardOfSamples
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
