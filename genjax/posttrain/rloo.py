"""RLOO: trains a language model on how much better a response is than the mean of the others to
the same prompt, by REINFORCE.

Ahmadian et al., arXiv 2402.14740; Kool et al., 2019.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.family import Batch, Mean, Metrics, Params
from genjax.losses import clipped_policy_loss, kl_k3
from genjax.posttrain.groups import Grouped, find_ties
from genjax.posttrain.ppo import RESPONSES
from genjax.posttrain.rollouts import score_tokens


@checks.frozen
class RLOO(Grouped):
    """Trains a language model on rewards, by REINFORCE with the other responses as a baseline.

    The data are prompts, and a batch counts responses, as in ``GRPO``. The return of a response is
    its reward minus ``kl`` times its log-ratio to the reference, the initial model; its advantage
    is its return minus the mean return of the other responses to its prompt, which makes the
    gradient unbiased. The whole response is one action: the loss is PPO's clipped one of its
    summed log-probability, whose gradient is that of -advantage log p in the first update after
    the draws. The defaults make only that one.

    The policy, an ``Autoregressive`` model, is evaluated, sampled and exported; its ``loss`` is on
    the texts of the data. Responses are drawn in float32, as in ``PPO``.

    Training metrics: ``reward``; ``kl`` to the reference, in nats per response, before the updates;
    ``tied``, the share of groups with equal rewards; ``loss``; ``approx_kl`` to the policy that
    drew the token, in nats per token; ``clip_fraction``, of responses; ``entropy``, in nats per
    token; ``response_length``, in tokens; ``agreement``, how often responses to different prompts
    are the same.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy, and the reference.
      reward: function of prompts and responses, lists of texts, that returns a number for each
        response; prompts include the chat template, responses have no end token.
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      group: responses per prompt.
      new_tokens: maximum length of a response, in tokens.
      longest_prompt: maximum length of a prompt, in tokens; None for the length of the data's rows.
      epochs: passes over the responses of a step.
      minibatches: updates per pass; the responses of a group may be in different ones.
      kl_alarm: training warns of a mean KL above this, in nats per response, or clearly below 0.
      codec: codec that decodes texts for the reward; None uses the data's.
      kl: coefficient of the KL in the return.
      clip: how far the probability ratio of a response may be from 1.
      sampler: sampling options; None uses the base's.
    """

    group: int = 4
    kl: float = 0.05
    clip: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.at_least(self, 0, "kl")
        checks.above(self, 0, "clip")

    def compare(self, judged: Mapping[str, jax.Array], kl: jax.Array) -> dict[str, jax.Array]:
        returns = judged["reward"] - self.kl * kl
        tied = find_ties(judged["reward"], self.group).astype(jnp.float32)
        return {"advantage": leave_one_out(returns, self.group), "tied": tied}

    def compute_metrics(self, params: Params, batch: Batch) -> Metrics:
        rows, mask = batch["mask"], batch["response_mask"]
        own = score_tokens(self.base, params, batch["tokens"], batch["real"], mask.shape[1])
        old = batch["log_probs"]
        log_ratio = (own.log_probs - old) * mask
        loss, clipped = clipped_policy_loss(log_ratio.sum(1), batch["advantage"], self.clip)
        of_response = {name: batch[name] for name in (*RESPONSES, "tied")}
        of_response |= {"loss": loss, "clip_fraction": clipped}
        of_token = {"entropy": own.entropy, "approx_kl": kl_k3(old, old + log_ratio)}
        return {name: Mean.of(values, rows) for name, values in of_response.items()} | {
            name: Mean.of(values, mask * rows[:, None]) for name, values in of_token.items()
        }


def leave_one_out(returns: jax.Array, group: int) -> jax.Array:
    """Return each response's return minus the mean of the others in its group, [B].

    Args:
      returns: returns [B]; those of a group are consecutive.
      group: responses per prompt.
    """
    grouped = returns.reshape(-1, group)
    others = (grouped.sum(1, keepdims=True) - grouped) / (group - 1)
    return (grouped - others).reshape(-1)
