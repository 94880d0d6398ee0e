"""KTO: trains a language model on responses that are good or bad, valued as people value gains
and losses.

Ethayarajh et al., arXiv 2402.01306.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.errors import UserError
from genjax.posttrain.paired import Paired, PairLosses, PairScores


@checks.frozen
class KTO(Paired):
    """Trains a language model on desirable and undesirable responses, each for itself.

    A pair is one of each: nothing but the mean over a batch joins them. With r a response's
    log-probability under the policy minus that under the reference, the initial model, and z what
    responses gained whatever their prompt, the loss is 1 - sigmoid(beta (r - z)) for a desirable
    response and 1 - sigmoid(beta (z - r)) for an undesirable one, times its weight; that of a pair
    is the mean of both. As in the paper, z is the mean log-ratio of the batch's chosen responses
    after the prompts of other rows, at least 0 and without gradient; a step so costs two more
    passes. Devices that are mapped and microbatches swap responses within their own rows.

    Metrics, beyond those of ``Paired``: ``drift``, which is z, in nats per response.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy, and the reference.
      beta: how soon a gain or a loss counts in full; the lower, the further the policy may go.
      desirable: weight of desirable responses.
      undesirable: weight of undesirable responses.
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/sft_instructions"
    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0

    measures_drift: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.above(self, 0, "beta")
        checks.at_least(self, 0, "desirable", "undesirable")

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        if rows // accumulate < 2:
            raise UserError(
                "batch_size must leave >= 2 pairs to a device and microbatch, whose responses "
                f"KTO swaps, got {rows // accumulate}",
                "batch_size",
            )

    def compare(self, scores: PairScores, training: bool) -> PairLosses:
        rewards, drift = self.beta * scores.gained, self.beta * scores.drift
        desirable = self.desirable * (1 - jax.nn.sigmoid(rewards[:, 0] - drift))
        undesirable = self.undesirable * (1 - jax.nn.sigmoid(drift - rewards[:, 1]))
        return PairLosses(
            (desirable + undesirable) / 2,
            rewards,
            {"drift": jnp.broadcast_to(scores.drift, scores.mask.shape)},
        )
