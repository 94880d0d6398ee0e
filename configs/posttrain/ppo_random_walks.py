"""PPO (Schulman et al., arXiv 1707.06347) on the random walks of trlX: from walks at random to shortest paths.

    python -m genjax train ppo_random_walks          # trains gpt_random_walks first where it is missing
    python -m genjax evaluate runs/ppo_random_walks
    python -m genjax sample runs/ppo_random_walks

128 walks a step, four epochs of four minibatches, gamma 1, lambda 0.95, clips of 0.2, no KL penalty, as in trlX's
example. Its learning rate of 3e-4 falls to 0 here: held constant for 100 steps, seed 0 came to an optimality of 0.978
after 40 and fell to 0.911. Imitation comes to 0.3; 1 is the most there is.

Seeds 0, 1, 2, each from a `gpt_random_walks` of its own seed, two x86 cores shared with other work, 60 steps in 73, 37
and 35 s with compiling: optimality of 400 walks drawn at temperature 1 from all 20 starts

    step    seed 0    seed 1    seed 2
       0     0.332     0.318     0.299
      20     0.950     0.915     0.972
      40     0.992     0.962     0.980
      60     0.993     0.981     0.987

The standard errors are 0.02 at the start and 0.004 to 0.006 at the end. The linear value function explains next to
nothing of the variance of returns, which are alike soon. The price is the walks that were imitated: 0.78 nats a node
became 2.56, 2.67, 2.60.
"""

from genjax.data.sources import RandomWalks
from genjax.data.sources.random_walks import optimality
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment, Keep
from genjax.optim import Adam
from genjax.posttrain.ppo import PPO
from genjax.schedules import Linear


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=PPO(
            base="runs/gpt_random_walks_tiny" if tiny else "runs/gpt_random_walks",
            reward=optimality,
            new_tokens=9,
            longest_prompt=2,
            epochs=2 if tiny else 4,
            minibatches=1 if tiny else 4,
            value_coefficient=1.2,
            kl=0.0,
        ),
        data=RandomWalks(),
        optimizer=Adam(Linear(3e-4, 0.0), clip=1.0),
        steps=4 if tiny else 60,
        batch_size=8 if tiny else 128,
        evaluators=(RewardOfSamples(optimality, "optimality", steps=9),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(5, 20, 60, 60),
        keep=Keep(best="optimality", larger_is_better=True),
    )
