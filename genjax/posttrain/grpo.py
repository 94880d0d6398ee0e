"""GRPO: trains a language model on how much better a response is than others to the same prompt,
without a value function.

Shao et al., arXiv 2402.03300. Its two normalisations can be switched off: Dr. GRPO (Liu et al.,
arXiv 2503.20783).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.family import Batch, Mean, Metrics, Params, State, Trained, Variables
from genjax.losses import clipped_policy_loss, kl_k1, kl_k3
from genjax.optim import Rules
from genjax.posttrain import adapters
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE, FromBase
from genjax.posttrain.minibatches import check_rows, run_updates
from genjax.posttrain.ppo import RESPONSES, describe_kl
from genjax.posttrain.rollouts import (
    Rollout,
    check_prompts,
    draw_responses,
    find_one_answer,
    measure_agreement,
    score_rollout,
    score_tokens,
    shape_rollout,
)

LEAST_STD = 1e-6  # added to standard deviations, so that nearly equal rewards are not blown up


@checks.frozen
class GRPO(FromBase):
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
      clip: how far the probability ratio may be from 1.
      clip_high: how far it may be above 1 (Yu et al., arXiv 2503.14476); None uses ``clip``.
      kl: coefficient of the KL in the loss.
      scale_by_std: whether advantages are divided by the (biased) standard deviation of the group's
        rewards; Dr. GRPO does not, as this favours prompts that are nearly always or nearly never
        solved.
      length_normalised: whether the loss of a response is divided by its length; Dr. GRPO divides
        by ``new_tokens``, as otherwise long wrong responses cost little.
      kl_alarm: training warns of a mean KL above this, in nats per response, or clearly below 0.
      sampler: sampling options; None uses the base's.
      codec: codec that decodes texts for the reward; None uses the data's.
    """

    base: Component = "runs/gpt_docs"
    reward: Component = None
    adapters: Adapters | None = None
    group: int = 8
    new_tokens: int = 64
    longest_prompt: int | None = None
    epochs: int = 1
    minibatches: int = 4
    clip: float = 0.2
    clip_high: float | None = None
    kl: float = 0.04
    scale_by_std: bool = True
    length_normalised: bool = True
    kl_alarm: float = 50.0
    codec: Component = None

    key_numbers: ClassVar[tuple[str, ...]] = ("reward", "kl", "entropy")

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "new_tokens", "longest_prompt", "epochs", "minibatches")
        checks.at_least(self, 2, "group")
        checks.above(self, 0, "clip", "clip_high", "kl_alarm")
        checks.at_least(self, 0, "kl")
        if not callable(self.reward):
            raise UserError(
                f"reward must be a function of prompts and responses, got {self.reward!r}", "reward"
            )

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> GRPO:
        check_prompts("GRPO", self, others[BASE], spec)
        return dataclasses.replace(self, base=others[BASE].family)

    def with_codec(self, codec: Component) -> GRPO:
        return self if self.codec is not None else dataclasses.replace(self, codec=codec)

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        if batch_size % self.group:
            raise UserError(
                f"batch_size must be a multiple of {self.group} (family.group), got {batch_size}",
                "batch_size",
            )
        check_rows(rows, self.minibatches, accumulate)

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        policy, _ = self.base.init(key, example, spec)
        return adapters.init_trainable(self.adapters, key, policy), {}

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        return adapters.copy_learned(
            self.adapters, state.params, state.frozen[BASE]["params"]
        ), state.variables

    def merge_params(self, frozen: Any, params: Params) -> Params:
        """Return the policy's parameters, given the trained ones."""
        return adapters.merge_trainable(self.adapters, frozen[BASE]["params"], params)

    def collect(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Draw responses to the prompts of a batch; return them with rewards and advantages, for
        ``update``.

        Raises:
          UserError: a prompt is longer than ``longest_prompt``, the reward fails, or there are
              several processes.
        """
        policy = self.merge_params(state.frozen, state.params)
        draws = jax.random.split(key)[0]  # ``update`` uses the other one
        drawn, longest = draw_responses(
            self, policy, batch, draws, slice(None, None, self.group), self.group
        )
        rewards = score_rollout(self.reward, self.codec, drawn, longest)
        weight = jnp.repeat(batch["mask"][:: self.group], self.group)
        return make_experience(self, policy, state.frozen[BASE]["params"], drawn, rewards, weight)

    def shape_collected(self, state: State, batch: Batch) -> Batch:
        """Return the shapes of what ``collect`` returns for a batch, without drawing anything."""
        rows, prompt = batch["tokens"].shape
        drawn = shape_rollout(rows, self.longest_prompt or prompt, self.new_tokens)

        def make(state: State, drawn: Rollout, rewards: jax.Array) -> Batch:
            policy, reference = self.merge_params(state.frozen, state.params), state.frozen[BASE]
            return make_experience(self, policy, reference["params"], drawn, rewards, rewards)

        return jax.eval_shape(make, state, drawn, jax.ShapeDtypeStruct((rows,), "float32"))

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        return update(self, state, batch, optimizer=optimizer, axis=axis)

    def eval_state(self, state: State) -> State:
        state = state.for_eval()
        policy, variables = (
            self.merge_params(state.frozen, state.params),
            state.frozen[BASE]["variables"],
        )
        return self.base.eval_state(
            state.replace(params=policy, variables=variables, ema=None, frozen=None)
        )

    def warnings(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        return describe_kl(numbers["kl"], self.kl_alarm)

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        return find_one_answer(numbers)


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
    grouped = rewards.reshape(-1, group)
    tied = grouped.max(1, keepdims=True) == grouped.min(1, keepdims=True)
    # The mean of equal numbers may differ from them by rounding, which would be scaled up.
    better = jnp.where(tied, 0.0, grouped - grouped.mean(1, keepdims=True))
    if scale_by_std:
        better = better / (jnp.sqrt(jnp.square(better).mean(1, keepdims=True)) + LEAST_STD)
    return better.reshape(-1), jnp.repeat(tied[:, 0], group)


@functools.partial(jax.jit, static_argnums=0)
def make_experience(
    family: GRPO,
    policy: Params,
    reference: Params,
    drawn: Rollout,
    rewards: jax.Array,
    weight: jax.Array,
) -> dict[str, jax.Array]:
    """Make the batch for ``update`` from responses and their rewards [B]; ``weight`` [B] is 0 for
    padding rows.

    Its entries are ``tokens`` and ``real`` of the rollout; ``log_probs``, ``reference_log_probs``
    and ``response_mask`` per token [B, N]; and ``reward``, ``advantage``, ``tied``, ``kl``,
    ``response_length`` and ``agreement`` per response [B].

    Args:
      policy: merged parameters that the responses were drawn from.
      reference: parameters of the initial policy.
      drawn: responses, those of a group consecutive.
      rewards: rewards of the responses, [B].
      weight: weights of the responses, [B].
    """
    mask = drawn.real[:, -drawn.log_probs.shape[1] :].astype(jnp.float32)
    log_probs, known = (
        score_tokens(family.base, params, drawn.tokens, drawn.real, mask.shape[1]).log_probs
        for params in (policy, reference)
    )
    advantage, tied = compute_group_advantages(rewards, family.group, family.scale_by_std)
    return {
        "mask": weight,
        "tokens": drawn.tokens,
        "real": drawn.real,
        "response_mask": mask,
        "log_probs": log_probs,
        "reference_log_probs": known,
        "reward": rewards,
        "advantage": advantage,
        "tied": tied.astype(jnp.float32),
        "kl": (kl_k1(log_probs, known) * mask).sum(1),
        "response_length": mask.sum(1),
        "agreement": measure_agreement(drawn.tokens, drawn.real, mask.shape[1], weight),
    }


def update(
    family: GRPO, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
) -> tuple[State, Metrics]:
    """Train on a batch of ``make_experience`` for all epochs; see ``minibatches.run_updates``."""
    return run_updates(
        functools.partial(_compute_metrics, family),
        functools.partial(family.merge_params, state.frozen),
        family.epochs,
        family.minibatches,
        state,
        batch,
        optimizer=optimizer,
        axis=axis,
    )


def _compute_metrics(family: GRPO, params: Params, batch: Batch) -> Metrics:
    rows, mask = batch["mask"], batch["response_mask"]
    own = score_tokens(family.base, params, batch["tokens"], batch["real"], mask.shape[1])
    old, known = batch["log_probs"], batch["reference_log_probs"]
    log_ratio = (own.log_probs - old) * mask
    losses, clipped = compute_policy_losses(
        log_ratio, batch["advantage"][:, None], family.clip, family.clip_high
    )
    divisor = batch["response_length"][:, None] if family.length_normalised else family.new_tokens
    share = mask / divisor
    of_response = {name: batch[name] for name in (*RESPONSES, "tied")}
    of_response["policy_loss"] = (losses * share).sum(1)
    of_response["kl_loss"] = (kl_k3(own.log_probs * mask, known * mask) * share).sum(1)
    of_response["loss"] = of_response["policy_loss"] + family.kl * of_response["kl_loss"]
    of_token = {
        "entropy": own.entropy,
        "approx_kl": kl_k3(old, old + log_ratio),
        "clip_fraction": clipped,
    }
    return {name: Mean.of(values, rows) for name, values in of_response.items()} | {
        name: Mean.of(values, mask * rows[:, None]) for name, values in of_token.items()
    }


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
