"""GRPO: trains a language model on how much better a response is than others to the same prompt,
without a value function.

Shao et al., arXiv 2402.03300. Its two normalisations can be switched off: Dr. GRPO (Liu et al.,
arXiv 2503.20783).
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.family import Batch, Mean, Metrics, Params
from genjax.losses import clipped_policy_loss, kl_k3
from genjax.posttrain.groups import Grouped, find_ties
from genjax.posttrain.ppo import RESPONSES
from genjax.posttrain.process_rewards import StepScores, compute_step_advantages, score_steps
from genjax.posttrain.rollouts import Rollout, score_tokens

LEAST_STD = 1e-6  # added to standard deviations, so that nearly equal rewards are not blown up


@checks.frozen
class GRPO(Grouped):
    """Trains a language model on rewards, by group relative policy optimisation.

    The data are prompts: rows with a ``prefix_mask``, whose prefix the policy answers, at
    temperature 1 and without filters. A batch counts responses: of every ``group`` consecutive
    rows, only the first prompt is used, ``group`` times, so ``batch_size`` is the number of prompts
    times ``group``. The advantage of all tokens of a response is its reward minus the mean of its
    group. A train step makes epochs x minibatches updates; the learning rate schedule counts train
    steps. The loss of a response is the mean over its tokens of PPO's clipped loss plus ``kl``
    times the k3 estimate of the KL to the reference, the initial model.

    The policy, an ``Autoregressive`` model, is evaluated, sampled and exported; its ``loss`` is on
    the texts of the data. Responses are drawn in float32, as in ``PPO``.

    Training metrics: ``reward``; ``kl`` to the reference, in nats per response, before the updates;
    ``tied``, the share of groups with equal rewards, which give no gradient; ``policy_loss`` and
    ``kl_loss``, of which ``loss`` is the weighted sum; ``approx_kl`` to the policy that drew the
    token, in nats per token; ``clip_fraction``; ``entropy``, in nats per token;
    ``response_length``, in tokens; ``agreement``, how often responses to different prompts are the
    same.

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
      clip: how far the probability ratio may be from 1.
      clip_high: how far it may be above 1 (Yu et al., arXiv 2503.14476); None uses ``clip``.
      kl: coefficient of the KL in the loss.
      scale_by_std: whether advantages are divided by the (biased) standard deviation of the group's
        rewards; Dr. GRPO does not, as this favours prompts that are nearly always or nearly never
        solved.
      length_normalised: whether the loss of a response is divided by its length; Dr. GRPO divides
        by ``new_tokens``, as otherwise long wrong responses cost little.
      step_end: text that ends a step of a response, such as a full stop, for process supervision:
        ``reward`` is then a function of prompts and of the steps of each response, lists of texts,
        that returns a list of numbers for each response, one a step; the advantage of a token is
        the sum over its step and the later ones, normalised over all steps of a group. None rewards
        whole responses.
      sampler: sampling options; None uses the base's.
    """

    minibatches: int = 4
    clip: float = 0.2
    clip_high: float | None = None
    kl: float = 0.04
    scale_by_std: bool = True
    length_normalised: bool = True
    step_end: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.above(self, 0, "clip", "clip_high")
        checks.at_least(self, 0, "kl")
        if self.step_end == "":
            raise UserError('step_end must not be empty, got ""', "step_end")

    def compare(self, judged: Mapping[str, jax.Array], kl: jax.Array) -> dict[str, jax.Array]:
        if self.step_end is None:
            advantage, tied = compute_group_advantages(
                judged["reward"], self.group, self.scale_by_std
            )
        else:
            steps = StepScores(judged["step_score"], judged["step_end"])
            advantage, tied = compute_step_advantages(
                steps, self.group, self.scale_by_std, LEAST_STD
            )
        return {"advantage": advantage, "tied": tied.astype(jnp.float32)}

    def judge(self, drawn: Rollout, longest: int) -> dict[str, jax.Array]:
        if self.step_end is None:
            return super().judge(drawn, longest)
        found = score_steps(self.reward, self.codec, self.step_end, drawn, longest)
        return {"reward": found.scores.sum(1), "step_score": found.scores, "step_end": found.ends}

    def shape_judged(self, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
        if self.step_end is None:
            return super().shape_judged(rows)
        of_token = jax.ShapeDtypeStruct((rows, self.new_tokens), "float32")
        return super().shape_judged(rows) | {"step_score": of_token, "step_end": of_token}

    def compute_metrics(self, params: Params, batch: Batch) -> Metrics:
        rows, mask = batch["mask"], batch["response_mask"]
        own = score_tokens(self.base, params, batch["tokens"], batch["real"], mask.shape[1])
        old, known = batch["log_probs"], batch["reference_log_probs"]
        log_ratio = (own.log_probs - old) * mask
        advantage = batch["advantage"] if self.step_end else batch["advantage"][:, None]
        losses, clipped = compute_policy_losses(log_ratio, advantage, self.clip, self.clip_high)
        divisor = batch["response_length"][:, None] if self.length_normalised else self.new_tokens
        share = mask / divisor
        of_response = {name: batch[name] for name in (*RESPONSES, "tied")}
        of_response["policy_loss"] = (losses * share).sum(1)
        of_response["kl_loss"] = (kl_k3(own.log_probs * mask, known * mask) * share).sum(1)
        of_response["loss"] = of_response["policy_loss"] + self.kl * of_response["kl_loss"]
        of_token = {
            "entropy": own.entropy,
            "approx_kl": kl_k3(old, old + log_ratio),
            "clip_fraction": clipped,
        }
        return {name: Mean.of(values, rows) for name, values in of_response.items()} | {
            name: Mean.of(values, mask * rows[:, None]) for name, values in of_token.items()
        }


def compute_group_advantages(
    rewards: jax.Array, group: int, scale_by_std: bool
) -> tuple[jax.Array, jax.Array]:
    """Return the advantage of each response over its group [B], and whether the rewards of its
    group are all equal [B].

    Args:
      rewards: rewards [B]; those of a group are consecutive.
      group: responses per group.
      scale_by_std: whether to divide by the (biased) standard deviation of the group.
    """
    grouped, tied = rewards.reshape(-1, group), find_ties(rewards, group)
    # The mean of equal numbers may differ from them by rounding, which would be scaled up.
    better = jnp.where(tied.reshape(-1, group), 0.0, grouped - grouped.mean(1, keepdims=True))
    if scale_by_std:
        better = better / (jnp.sqrt(jnp.square(better).mean(1, keepdims=True)) + LEAST_STD)
    return better.reshape(-1), tied


def compute_policy_losses(
    log_ratio: jax.Array, advantages: jax.Array, clip: float, clip_high: float | None = None
) -> tuple[jax.Array, jax.Array]:
    """Compute ``clipped_policy_loss`` of each token, and where it is clipped, both [B, N].

    Args:
      log_ratio: [B, N], log p(token) minus its value when the token was drawn.
      advantages: advantages, which broadcast.
      clip: how far the ratio may be below 1 before the loss is clipped.
      clip_high: how far it may be above 1; None uses ``clip``.
    """
    below = clipped_policy_loss(log_ratio, advantages, clip)
    if clip_high is None:
        return below
    # Applies only to positive advantages.
    above = clipped_policy_loss(log_ratio, advantages, clip_high)
    losses, clipped = (jnp.where(advantages > 0, a, b) for a, b in zip(above, below, strict=True))
    return losses, clipped
