"""Trains a language model on rewards of several responses to each prompt: what GRPO, RLOO and
online DPO share.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.family import Batch, Metrics, Params, State, Trained, Variables
from genjax.losses import kl_k1
from genjax.optim import Rules
from genjax.posttrain import adapters
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE, FromBase
from genjax.posttrain.minibatches import check_rows, run_updates
from genjax.posttrain.ppo import describe_kl
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


@checks.frozen
class Grouped(FromBase):
    """The base class of families that compare the rewards of responses to one prompt.

    A method gives ``compare``, from rewards to what is learned of each response, and
    ``compute_metrics`` with the loss of a minibatch. If it is ``joint``, a minibatch holds whole
    groups, and its entries are [B / group, group, ...].

    Attributes:
      reward: function of prompts and responses, lists of texts, that returns a number for each
        response; prompts include the chat template, responses have no end token.
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      group: responses per prompt.
      new_tokens: maximum length of a response, in tokens.
      longest_prompt: maximum length of a prompt, in tokens; None for the length of the data's rows.
      epochs: passes over the responses of a step.
      minibatches: updates per pass.
      kl_alarm: training warns of a mean KL above this, in nats per response, or clearly below 0.
      codec: codec that decodes texts for the reward; None uses the data's.
    """

    reward: Component = None
    adapters: Adapters | None = None
    group: int = 8
    new_tokens: int = 64
    longest_prompt: int | None = None
    epochs: int = 1
    minibatches: int = 1
    kl_alarm: float = 50.0
    codec: Component = None

    key_numbers: ClassVar[tuple[str, ...]] = ("reward", "kl", "entropy")
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "new_tokens", "longest_prompt", "epochs", "minibatches")
        checks.at_least(self, 2, "group")
        checks.above(self, 0, "kl_alarm")
        if not callable(self.reward):
            raise UserError(
                f"reward must be a function of prompts and responses, got {self.reward!r}", "reward"
            )

    def judge(self, drawn: Rollout, longest: int) -> dict[str, jax.Array]:
        """Return the ``reward`` [B] of drawn responses, and what else a method compares."""
        return {"reward": score_rollout(self.reward, self.codec, drawn, longest)}

    def shape_judged(self, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of what ``judge`` returns."""
        return {"reward": jax.ShapeDtypeStruct((rows,), "float32")}

    def compare(self, judged: Mapping[str, jax.Array], kl: jax.Array) -> Mapping[str, jax.Array]:
        """Return entries [B, ...] of a batch from what is ``judged`` and the KL [B] of responses to
        the reference, in nats; responses to one prompt are consecutive.
        """
        raise NotImplementedError

    def compute_metrics(self, params: Params, batch: Batch) -> Metrics:
        """Compute the metrics of a minibatch of ``make_experience`` under merged parameters."""
        raise NotImplementedError

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        check_prompts(type(self).__name__, self, others[BASE], spec)
        return dataclasses.replace(self, base=others[BASE].family)

    def with_codec(self, codec: Component) -> Self:
        return self if self.codec is not None else dataclasses.replace(self, codec=codec)

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        for size in (batch_size, rows) if self.joint else (batch_size,):
            if size % self.group:
                of_those = "" if size == batch_size else " per device"
                raise UserError(
                    f"batch_size must be a multiple of {self.group} (family.group){of_those}, got "
                    f"{size}",
                    "batch_size",
                )
        check_rows(rows // self.group if self.joint else rows, self.minibatches, accumulate)

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
        """Draw responses to the prompts of a batch; return them with their rewards, compared, for
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
        judged = self.judge(drawn, longest)
        weight = jnp.repeat(batch["mask"][:: self.group], self.group)
        return make_experience(self, policy, state.frozen[BASE]["params"], drawn, judged, weight)

    def shape_collected(self, state: State, batch: Batch) -> Batch:
        """Return the shapes of what ``collect`` returns for a batch, without drawing anything."""
        rows, prompt = batch["tokens"].shape
        drawn = shape_rollout(rows, self.longest_prompt or prompt, self.new_tokens)

        def make(state: State, drawn: Rollout, judged: dict[str, jax.Array]) -> Batch:
            policy, reference = self.merge_params(state.frozen, state.params), state.frozen[BASE]
            weight = judged["reward"]
            return make_experience(self, policy, reference["params"], drawn, judged, weight)

        return jax.eval_shape(make, state, drawn, self.shape_judged(rows))

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


@functools.partial(jax.jit, static_argnums=0)
def make_experience(
    family: Grouped,
    policy: Params,
    reference: Params,
    drawn: Rollout,
    judged: dict[str, jax.Array],
    weight: jax.Array,
) -> dict[str, jax.Array]:
    """Make the batch for ``update`` from responses and what ``family.judge`` says of them;
    ``weight`` [B] is 0 for padding rows.

    Its entries are ``tokens`` and ``real`` of the rollout; ``log_probs``, ``reference_log_probs``
    and ``response_mask`` per token [B, N]; ``kl``, ``response_length`` and ``agreement`` per
    response [B]; and those of ``judged`` and of ``family.compare``.

    Args:
      policy: merged parameters that the responses were drawn from.
      reference: parameters of the initial policy.
      drawn: responses, those of a group consecutive.
      judged: ``reward`` [B] of the responses, and what else the method compares.
      weight: weights of the responses, [B].
    """
    mask = drawn.real[:, -drawn.log_probs.shape[1] :].astype(jnp.float32)
    log_probs, known = (
        score_tokens(family.base, params, drawn.tokens, drawn.real, mask.shape[1]).log_probs
        for params in (policy, reference)
    )
    kl = (kl_k1(log_probs, known) * mask).sum(1)
    return {
        "mask": weight,
        "tokens": drawn.tokens,
        "real": drawn.real,
        "response_mask": mask,
        "log_probs": log_probs,
        "reference_log_probs": known,
        "kl": kl,
        "response_length": mask.sum(1),
        "agreement": measure_agreement(drawn.tokens, drawn.real, mask.shape[1], weight),
        **judged,
        **family.compare(judged, kl),
    }


def update(
    family: Grouped, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
) -> tuple[State, Metrics]:
    """Train on a batch of ``make_experience`` for all epochs; see ``minibatches.run_updates``."""
    if family.joint:
        batch = {
            name: value.reshape(-1, family.group, *value.shape[1:]) for name, value in batch.items()
        }
    return run_updates(
        family.compute_metrics,
        functools.partial(family.merge_params, state.frozen),
        family.epochs,
        family.minibatches,
        state,
        batch,
        optimizer=optimizer,
        axis=axis,
    )


def find_ties(rewards: jax.Array, group: int) -> jax.Array:
    """Return whether the rewards of each response's group are all equal, bool [B]."""
    grouped = rewards.reshape(-1, group)
    return jnp.repeat(grouped.max(1) == grouped.min(1), group)
