"""PPO (Schulman et al., arXiv 1707.06347) on trlX's random walks: they become shortest paths.

    python -m genjax train ppo_random_walks          # trains gpt_random_walks first if missing
    python -m genjax evaluate runs/ppo_random_walks
    python -m genjax sample runs/ppo_random_walks

As in trlX's example, a step has 128 walks and four epochs of four minibatches, with gamma 1, lambda
0.95, clips of 0.2 and no KL penalty. Here its learning rate of 3e-4 falls to 0: held constant for
100 steps, seed 0 reached an optimality of 0.978 after 40 and fell to 0.911. Imitation has about
0.3, and the maximum is 1.

Seeds 0, 1 and 2 each start from a `gpt_random_walks` of the same seed. 60 steps took 73, 37 and 35
s with compilation on two x86 cores shared with other work. Optimality of 400 walks drawn at
temperature 1 from all 20 starts:

    step    seed 0    seed 1    seed 2
       0     0.332     0.318     0.299
      20     0.950     0.915     0.972
      40     0.992     0.962     0.980
      60     0.993     0.981     0.987

The standard errors are 0.02 at the start and 0.004 to 0.006 at the end. The linear value function
explains almost none of the variance of returns, which soon are nearly equal. The imitated walks
become less likely: their loss rises from 0.78 nats per node to 2.56, 2.67 and 2.60.

Result:
    command: python -m genjax train ppo_random_walks
    data: trlX's random walks, from `gpt_random_walks`
    hardware: two x86 cores, shared
    minutes: 1.2, 0.6, 0.6
    seeds: 0, 1, 2
    metric: optimality of 400 walks
    value: 0.993, 0.981, 0.987
    baseline: 0.332, 0.318, 0.299 before
"""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.PPO(
            base="runs/gpt_random_walks",
            reward=gx.optimality,
            new_tokens=9,
            longest_prompt=2,
            epochs=4,
            minibatches=4,
            value_coefficient=1.2,
            kl=0.0,
        ),
        data=gx.RandomWalks(),
        optimizer=gx.Adam(gx.Linear(3e-4, 0.0), clip=1.0),
        steps=60,
        batch_size=128,
        evaluators=(gx.RewardOfSamples(gx.optimality, "optimality", steps=9),),
        every=gx.Every(log=5, evaluate=20, sample=60, checkpoint=60),
        keep=gx.Keep(best="optimality", larger_is_better=True),
    )
    if not tiny:
        return experiment
    return gx.replace_fields(
        experiment,
        {
            "family.base": "runs/gpt_random_walks_tiny",
            "family.epochs": 2,
            "family.minibatches": 1,
            "steps": 4,
            "batch_size": 8,
            "every": gx.Every(log=2, evaluate=4, sample=4, checkpoint=4),
        },
    )
