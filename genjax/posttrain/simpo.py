"""SimPO: trains a language model on preferences by mean log-probabilities, without a reference.

Meng et al., arXiv 2405.14734.
"""

from __future__ import annotations

from genjax import checks
from genjax.checks import Component
from genjax.losses import preference_loss
from genjax.posttrain.paired import Paired, PairLosses, PairScores


@checks.frozen
class SimPO(Paired):
    """Trains a language model to find chosen responses likelier than rejected ones, token for
    token.

    The reward of a response is ``beta`` times its mean log-probability per token under the policy,
    and the loss -log sigmoid(margin - gamma), so that the chosen response leads by ``gamma``. Long
    responses have no advantage, and nothing but few steps and a low learning rate holds the policy
    near its start: look at ``PolicyKL``.

    The metrics are those of ``Paired``.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy.
      beta: scale of the rewards.
      gamma: margin that the chosen response is to lead by; the paper takes about half of ``beta``.
      adapters: LoRA adapters to train instead of all parameters. None trains all parameters.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/sft_instructions"
    beta: float = 2.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "beta")
        checks.at_least(self, 0, "gamma")

    def compare(self, scores: PairScores, training: bool) -> PairLosses:
        rewards = self.beta * scores.log_probs / scores.sizes
        return PairLosses(preference_loss(rewards[:, 0] - rewards[:, 1] - self.gamma), rewards)
