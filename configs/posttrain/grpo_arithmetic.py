"""GRPO (Shao et al., arXiv 2402.03300) on sums: the answers of a model that has learned wrong ones become right.

    python -m genjax train grpo_arithmetic           # trains gpt_arithmetic first where it is missing
    python -m genjax evaluate runs/grpo_arithmetic
    python -m genjax sample runs/grpo_arithmetic

32 sums a step, 8 answers to each, one epoch of four minibatches, no KL in the loss. The reward of an answer is 1 if it
is right and 0 otherwise; no right answer is shown. The sums are those that `gpt_arithmetic` was trained on; what is
judged are 1,000 others.

Seeds 0, 1, 2, each from a `gpt_arithmetic` of its own seed, two x86 cores shared with much other work, seeds 1 and 2 in
104 and 80 s with compiling: the share of right answers to the held-out sums, drawn at temperature 1, and its standard
error; KL to the start in nats an answer and tokens of an answer with its end, means of training over the 15 steps up to
the one named (step 45 for 50, 105 for 100)

            seed 0                         seed 1                         seed 2
    step    right          KL    length    right          KL    length    right          KL    length
       0    0.586 +-0.016  0               0.545 +-0.016  0               0.591 +-0.016  0
      15                   0.28  3.55                     0.25  3.46                     0.28  3.48
      50    0.846 +-0.011  0.49  3.49      0.788 +-0.013  0.45  3.46      0.758 +-0.014  0.43  3.49
     100    0.898 +-0.010  0.49  3.52      0.849 +-0.011  0.46  3.53      0.800 +-0.013  0.40  3.51
     150    0.925 +-0.008  0.47  3.46      0.883 +-0.010  0.47  3.46      0.838 +-0.012  0.37  3.50

The gains, with 95 % intervals of independent draws: 0.339 +-0.035, 0.338 +-0.037, 0.247 +-0.038; all above 0.2, and all
ends above the 0.7 of a perfect imitation. At the end 0.76, 0.50, 0.61 of the groups have equal rewards and teach
nothing. The loss of right answers fell, too, to 0.044, 0.083, 0.095 nats a token.

Dr. GRPO's form (Liu et al., arXiv 2503.20783: --family.no-scale-by-std --family.no-length-normalised), seed 0 alone:
0.828, 0.892, 0.920 +-0.009 after 50, 100, 150 steps, no different here. A learning rate of 1e-3 is too high: from a
weaker start of 0.162 (answers wrong with probability 0.5, 1,500 steps) it fell to 0.114 after 100 steps; with 2e-4 it
came to 0.288.
"""

from genjax.data.sources import Arithmetic
from genjax.data.sources.arithmetic import correct
from genjax.evaluation.text.reward_of_samples import RewardOfSamples
from genjax.experiment import Every, Experiment, Keep
from genjax.optim import Adam
from genjax.posttrain.grpo import GRPO
from genjax.schedules import Linear


def get_config(tiny: bool = False) -> Experiment:
    return Experiment(
        family=GRPO(
            base="runs/gpt_arithmetic_tiny" if tiny else "runs/gpt_arithmetic",
            reward=correct,
            group=4 if tiny else 8,
            minibatches=1 if tiny else 4,
            new_tokens=5,
            longest_prompt=7,
            kl=0.0,
        ),
        data=Arithmetic(operations="+", size=8_000),
        optimizer=Adam(Linear(4e-4, 0.0), clip=1.0),
        steps=4 if tiny else 150,
        batch_size=16 if tiny else 256,
        evaluators=(RewardOfSamples(correct, "correct", steps=5),),
        every=Every(log=2, evaluate=4, sample=4, checkpoint=4) if tiny else Every(15, 50, 150, 150),
        keep=Keep(best="correct", larger_is_better=True),
    )
