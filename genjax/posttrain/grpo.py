"""GRPO: a language model learns from how much better a response is than others to the same prompt;
no values.

Shao et al., arXiv 2402.03300. Its two divisions can be left out: Dr. GRPO (Liu et al., arXiv
2503.20783).
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
from genjax.posttrain.minibatches import check_rows, updates
from genjax.posttrain.ppo import RESPONSES, kl_remarks
from genjax.posttrain.rollouts import (
    Rollout,
    check_counts,
    check_prompts,
    draw_responses,
    find_one_answer,
    measure_agreement,
    score_rollout,
    score_tokens,
)

LEAST_STD = (
    1e-6  # added to a standard deviation, so that rewards that all but agree are not blown up
)


@checks.frozen
class GRPO(FromBase):
    """A trained model of texts continues learning from rewards, by group relative policy
    optimisation.

    Data are prompts: rows with a ``prefix_mask``, whose prefix the policy answers, at temperature 1
    and without filters. A batch is of responses: of every ``group`` rows that follow on each other
    the first is asked, ``group`` times, so that ``batch_size`` is prompts times ``group``. The
    advantage of all tokens of a response is its reward less the mean of its group. A train step
    makes epochs x minibatches updates; the learning rate's schedule counts train steps. The loss of
    a response is the mean over its tokens of PPO's clipped loss and of ``kl`` times the k3 estimate
    of the KL to the model that it started as.

    What is judged, sampled from and exported is the policy, an ``Autoregressive`` model: its
    ``loss`` is that of the texts of the data. Responses are drawn in float32, as ``PPO`` has them.

    Metrics of training: ``reward``; ``kl`` of a response to the reference, in nats, before the
    updates; ``tied``, the share of groups whose rewards are all equal, which teach nothing;
    ``policy_loss`` and ``kl_loss``, which with its coefficient makes the rest of the ``loss``;
    ``approx_kl`` per token to the policy that drew it; ``clip_fraction``; ``entropy`` a token;
    ``response_length``; ``agreement``, how often two responses to different prompts are the same.

    Attributes:
      base: the run directory of an Autoregressive model: where the policy starts, and the
        reference.
      reward: a function of prompts and responses, lists of text, which gives a number for each;
        prompts with what a template puts around them, responses without their end.
      adapters: train LoRA adapters of the base, so that the reference is the base weights that they
        depend on, and no second copy; None trains all parameters.
      group: responses to a prompt.
      new_tokens: the longest response.
      longest_prompt: tokens that rows have room for; None takes the length of the data's rows.
      epochs: skips the responses.
      minibatches: updates in a pass; the responses of a group may be in several.
      clip: how far the ratio of probabilities may be below 1, and above.
      clip_high: how far above, instead (Yu et al., arXiv 2503.14476); None takes ``clip``.
      kl: coefficient of the KL in the loss.
      scale_by_std: divide advantages by the standard deviation of the group's rewards, the biased
        one; Dr. GRPO does not, as it favours prompts that are nearly always or nearly never
        answered.
      length_normalised: divide the loss of a response by its length; Dr. GRPO divides by
        ``new_tokens``, as the length makes long wrong responses cheap.
      kl_alarm: nats per response; training warns of a mean KL above it or clearly below 0.
      sampler: how samples are drawn; None takes the base's.
      codec: turns tokens to the texts that are rewarded; None takes that of the data.
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
        check_counts(self, ("new_tokens", "longest_prompt", "epochs", "minibatches"))
        checks.at_least(self, 2, "group")
        checks.above(self, 0, "clip", "clip_high", "kl_alarm")
        checks.at_least(self, 0, "kl")
        if not callable(self.reward):
            raise UserError(f"reward is a function of prompts and responses, not {self.reward!r}")

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> GRPO:
        check_prompts("GRPO", self, others[BASE], spec)
        return dataclasses.replace(self, base=others[BASE].family)

    def with_codec(self, codec: Component) -> GRPO:
        return self if self.codec is not None else dataclasses.replace(self, codec=codec)

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        if batch_size % self.group:
            raise UserError(
                f"a batch of {batch_size} responses does not divide into groups of {self.group} to "
                "a prompt: give a "
                "batch_size that is a multiple of family.group"
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
        """Return the policy's parameters as networks use them, of those that are trained."""
        return adapters.merge_trainable(self.adapters, frozen[BASE]["params"], params)

    def collect(self, state: State, batch: Batch, key: jax.Array) -> Batch:
        """Return responses to the prompts of a batch, their rewards and advantages: what ``update``
        learns from.

        Raises:
          UserError: a prompt longer than ``longest_prompt``, a reward that fails, or several
            processes.
        """
        policy = self.merge_params(state.frozen, state.params)
        draws = jax.random.split(key)[0]  # the other one is of ``update``
        drawn, longest = draw_responses(
            self, policy, batch, draws, slice(None, None, self.group), self.group
        )
        rewards = score_rollout(self.reward, self.codec, drawn, longest)
        weight = jnp.repeat(batch["mask"][:: self.group], self.group)
        return experience(self, policy, state.frozen[BASE]["params"], drawn, rewards, weight)

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
        return kl_remarks(numbers["kl"], self.kl_alarm)

    def find_collapse(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        return find_one_answer(numbers)


def group_advantages(
    rewards: jax.Array, group: int, scale_by_std: bool
) -> tuple[jax.Array, jax.Array]:
    """How much better each response is than its group [B], and whether all rewards of its group are
    equal [B].

    Args:
      rewards: [B]; those of a group follow on each other.
      group: how many there are.
      scale_by_std: divide by the standard deviation of the group, the biased one.
    """
    grouped = rewards.reshape(-1, group)
    tied = grouped.max(1, keepdims=True) == grouped.min(1, keepdims=True)
    # The mean of equal numbers is not always quite the same number, and the rest would be scaled
    # up.
    better = jnp.where(tied, 0.0, grouped - grouped.mean(1, keepdims=True))
    if scale_by_std:
        better = better / (jnp.sqrt(jnp.square(better).mean(1, keepdims=True)) + LEAST_STD)
    return better.reshape(-1), jnp.repeat(tied[:, 0], group)


@functools.partial(jax.jit, static_argnums=0)
def experience(
    family: GRPO,
    policy: Params,
    reference: Params,
    drawn: Rollout,
    rewards: jax.Array,
    weight: jax.Array,
) -> dict[str, jax.Array]:
    """Return a batch for ``update`` of responses and their rewards [B]; ``weight`` [B] is 0 for
    rows that only fill it up.

    The entries are ``tokens`` and ``real`` of the rollout, of its tokens ``log_probs``,
    ``reference_log_probs`` and ``response_mask`` [B, N], and of each response ``reward``,
    ``advantage``, ``tied``, ``kl`` and ``response_length`` [B].

    Args:
      policy: whole parameters that the responses were drawn from.
      reference: parameters of the model that the policy started as.
      drawn: the responses, those of a group after each other.
      rewards: of them, [B].
      weight: of the responses, [B].
    """
    mask = drawn.real[:, -drawn.log_probs.shape[1] :].astype(jnp.float32)
    log_probs, known = (
        score_tokens(family.base, params, drawn.tokens, drawn.real, mask.shape[1]).log_probs
        for params in (policy, reference)
    )
    advantage, tied = group_advantages(rewards, family.group, family.scale_by_std)
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
    """Return epochs over a batch of ``experience``, an update for each minibatch; see
    ``minibatches.updates``.
    """
    return updates(
        functools.partial(_losses, family),
        functools.partial(family.merge_params, state.frozen),
        family.epochs,
        family.minibatches,
        state,
        batch,
        optimizer=optimizer,
        axis=axis,
    )


def _losses(family: GRPO, params: Params, batch: Batch) -> Metrics:
    rows, mask = batch["mask"], batch["response_mask"]
    own = score_tokens(family.base, params, batch["tokens"], batch["real"], mask.shape[1])
    old, known = batch["log_probs"], batch["reference_log_probs"]
    log_ratio = (own.log_probs - old) * mask
    losses, clipped = policy_losses(
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


def policy_losses(
    log_ratio: jax.Array, advantages: jax.Array, clip: float, clip_high: float | None = None
) -> tuple[jax.Array, jax.Array]:
    """``clipped_policy_loss`` of each token, and where the clipping decides it, [B, N] both.

    Args:
      log_ratio: [B, N], log p(token) less what it was when the token was drawn.
      advantages: that broadcast.
      clip: how far the ratio may be below 1 and still be rewarded for going farther.
      clip_high: how far above; None takes ``clip``.
    """
    below = clipped_policy_loss(log_ratio, advantages, clip)
    if clip_high is None:
        return below
    above = clipped_policy_loss(
        log_ratio, advantages, clip_high
    )  # what advantages below 0 have nothing to do with
    losses, clipped = (jnp.where(advantages > 0, a, b) for a, b in zip(above, below, strict=True))
    return losses, clipped
