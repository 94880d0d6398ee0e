"""ORPO: fine-tunes a language model on chosen responses, away from rejected ones, in one stage.

Hong et al., arXiv 2403.07691.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.losses import preference_loss
from genjax.posttrain.paired import Paired, PairLosses, PairScores

LIKELIEST = -1e-6  # nats per token; log(1 - p) of a response that is certain is not finite


@checks.frozen
class ORPO(Paired):
    """Trains a language model on chosen responses and on the odds of chosen over rejected ones.

    With p the geometric mean of the probabilities of a response's tokens, its reward is log odds =
    log p - log(1 - p). The loss is the negative log-likelihood of the chosen response, a mean over
    its tokens (prompts are not learned), plus ``weight`` times -log sigmoid(difference of the
    rewards). There is no reference, so an untuned model may be the base.

    Metrics, beyond those of ``Paired``: ``nll`` of the chosen response in nats per token, and
    ``odds_loss``.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy.
      weight: weight of the odds, the paper's lambda.
      adapters: LoRA adapters to train instead of all parameters. None trains all parameters.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/gpt_docs"
    weight: float = 0.1

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "weight")

    def compare(self, scores: PairScores, training: bool) -> PairLosses:
        log_p = scores.log_probs / scores.sizes
        rewards = compute_log_odds(log_p)
        nll, odds_loss = -log_p[:, 0], preference_loss(rewards[:, 0] - rewards[:, 1])
        return PairLosses(
            nll + self.weight * odds_loss, rewards, {"nll": nll, "odds_loss": odds_loss}
        )


def compute_log_odds(log_p: jax.Array) -> jax.Array:
    """Compute log(p / (1 - p)) from log p < 0 of any shape."""
    log_p = jnp.minimum(log_p, LIKELIEST)
    return log_p - jnp.log(-jnp.expm1(log_p))
