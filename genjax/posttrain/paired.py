"""Trains a language model on pairs of responses: what DPO, KTO, ORPO and SimPO share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.data.chat.pairs import SIDES
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import (
    Batch,
    Family,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
    gradient_step,
)
from genjax.optim import Rules
from genjax.posttrain import adapters
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE, FromBase
from genjax.posttrain.rollouts import check_policy


class PairScores(NamedTuple):
    """What is known of the responses of B pairs, the chosen ones first.

    Attributes:
      log_probs: log p(response | prompt) under the policy, in nats, [B, 2].
      gained: ``log_probs`` minus those under the reference, the initial model, [B, 2].
      sizes: numbers of predicted tokens, at least 1, [B, 2].
      mask: weights of the pairs, 0 for padding, [B].
      drift: nats by which responses to other prompts gained, a number; 0 unless ``measures_drift``.
    """

    log_probs: jax.Array
    gained: jax.Array
    sizes: jax.Array
    mask: jax.Array
    drift: jax.Array


class PairLosses(NamedTuple):
    """The losses and rewards of B pairs.

    Attributes:
      losses: losses [B].
      rewards: rewards of both responses [B, 2], by which pairs are judged.
      more: further numbers of each pair [B], by name.
    """

    losses: jax.Array
    rewards: jax.Array
    more: Mapping[str, jax.Array] = {}


@checks.frozen
class Paired(FromBase):
    """The base class of families that train a language model on preferences, without sampling.

    A method gives ``compare``, from what is known of a batch of pairs to their losses and rewards.

    The log-probability of a response is the sum over its tokens, end token included. Dropout is
    off. The reference's log-probabilities are computed once for all training examples, in float32.

    The policy, an ``Autoregressive`` model, is sampled and exported; the method itself is evaluated
    on held-out pairs.

    Metrics, means over pairs: ``accuracy``, the share of pairs whose chosen response has the higher
    reward, where a tie counts half; ``margin`` between the rewards; ``chosen_reward`` and
    ``rejected_reward``; ``chosen_log_prob``, in nats per response, which may fall while the margin
    grows; and ``log_ratio``, the mean log-ratio to the reference, in nats per token. No response is
    drawn, so none of these is the KL to the reference: see ``genjax.evaluation.text.policy_kl``.

    Attributes:
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
    """

    adapters: Adapters | None = dataclasses.field(default=None, kw_only=True)

    key_numbers: ClassVar[tuple[str, ...]] = ("accuracy", "margin")
    measures_drift: ClassVar[bool] = False

    def compare(self, scores: PairScores, training: bool) -> PairLosses:
        """Compute the losses and rewards of pairs; ``training`` is False on held-out ones."""
        raise NotImplementedError

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> Self:
        base, what = others[BASE], type(self).__name__
        if not spec.preferences or spec.vocabulary is None:
            raise UserError(f"{what} needs pairs of responses, but the data are {spec.entry}")
        check_policy(what, base, spec)
        if spec.shape[0] - 1 > base.family.net.context:
            raise UserError(
                f"the rows must have at most {base.family.net.context + 1} tokens (context of "
                f"{base.run_dir}, plus one), got {spec.shape[0]}"
            )
        return dataclasses.replace(self, base=base.family)

    def wrapped_spec(self, spec: Spec) -> Spec:
        return dataclasses.replace(spec, entry="tokens", preferences=False)

    @property
    def evaluated_as(self) -> Family:
        return self

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        policy, _ = self.base.init(key, {"tokens": example["chosen_tokens"]}, spec)
        return adapters.init_trainable(self.adapters, key, policy), {}

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        return adapters.copy_learned(
            self.adapters, state.params, state.frozen[BASE]["params"]
        ), state.variables

    def precompute(self, state: State, batch: Batch) -> Batch:
        """Compute the log-probabilities [B] of both responses under the reference:
        ``chosen_reference``, ``rejected_reference``.
        """
        found = response_log_probs(self.base, state.frozen[BASE]["params"], batch)
        return {f"{side}_reference": found[:, number] for number, side in enumerate(SIDES)}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def judge(params: Params, batch: Batch) -> Metrics:
            known = batch if f"{SIDES[0]}_reference" in batch else self.precompute(state, batch)
            scores = self._score(params, state.frozen[BASE]["params"], known, batch, axis)
            return self._compute_metrics(scores, training=True)

        return step_policy(judge, self.adapters, state, batch, optimizer, axis)

    def eval_state(self, state: State) -> State:
        """Return the state of the policy, with the reference in ``frozen``."""
        return self.base.eval_state(take_policy(self.adapters, state))

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._compute_metrics(self._score_judged(state, batch), training=False)

    def score_pairs(self, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the rewards of the chosen and of the rejected responses, [B] each."""
        rewards = self.compare(self._score_judged(state, batch), training=False).rewards
        return rewards[:, 0], rewards[:, 1]

    def _score_judged(self, state: State, batch: Batch) -> PairScores:
        reference = state.frozen[BASE]["params"]
        return self._score(state.params, reference, self.precompute(state, batch), batch)

    def _score(
        self, params: Params, reference: Params, known: Batch, batch: Batch, axis: str | None = None
    ) -> PairScores:
        """Score pairs by merged parameters; ``known`` has the log-probabilities of the
        reference.
        """
        log_probs = response_log_probs(self.base, params, batch)
        gained = log_probs - _stack_references(known)
        drift = jnp.zeros(())
        if self.measures_drift:
            drift = measure_drift(self.base, params, reference, batch, axis)
        return PairScores(log_probs, gained, count_tokens(batch), batch["mask"], drift)

    def _compute_metrics(self, scores: PairScores, training: bool) -> Metrics:
        found, mask = self.compare(scores, training), scores.mask
        margin = found.rewards[:, 0] - found.rewards[:, 1]
        each = {
            "loss": found.losses,
            "accuracy": (jnp.sign(margin) + 1) / 2,
            "margin": margin,
            "chosen_reward": found.rewards[:, 0],
            "rejected_reward": found.rewards[:, 1],
            "chosen_log_prob": scores.log_probs[:, 0],
            **found.more,
        }
        weighed = mask[:, None]
        return {name: Mean.of(values, mask) for name, values in each.items()} | {
            "log_ratio": Mean(jnp.sum(scores.gained * weighed), jnp.sum(scores.sizes * weighed))
        }


def step_policy(
    judge: Callable[[Params, Batch], Metrics],
    adapters_: Adapters | None,
    state: State,
    batch: Batch,
    optimizer: Rules,
    axis: str | None,
) -> tuple[State, Metrics]:
    """Take a gradient step of a policy whose reference is the initial model.

    Args:
      judge: from merged parameters of the policy and a batch to the metrics, ``loss`` among them.
      adapters_: LoRA adapters that are trained instead of all parameters.
      state: the state, with the reference in ``frozen``.
      batch: rows that ``judge`` reads.
      optimizer: the rules of the step.
      axis: mapped axis.
    """
    learned = state.frozen[BASE]["params"]
    rule = dataclasses.replace(
        optimizer, through=lambda params: adapters.merge_trainable(adapters_, learned, params)
    )

    def loss(
        params: Params, variables: Variables, batch: Batch, key: jax.Array
    ) -> tuple[Metrics, Variables]:
        return judge(params, batch), variables

    state, metrics = gradient_step(loss, rule, state, batch, state.step_key, axis=axis)
    return state.replace(step=state.step + 1), metrics


def take_policy(adapters_: Adapters | None, state: State) -> State:
    """Return the state with the merged, averaged parameters of the policy as its own."""
    state, base = state.for_eval(), state.frozen[BASE]
    policy = adapters.merge_trainable(adapters_, base["params"], state.params)
    return state.replace(params=policy, variables=base["variables"], ema=None)


def response_log_probs(family: Autoregressive, params: Params, batch: Batch) -> jax.Array:
    """Compute log p(response | prompt) of the chosen and the rejected response of each pair: [B,
    2], in nats.

    Both go through the model in one pass, interleaved so that a sharded batch does not move. The
    first token of a row, which no model predicts, does not count; nor do rows with mask 0.
    """
    tokens, response = (
        jnp.stack([batch[f"{side}_{part}"] for side in SIDES], 1).reshape(
            -1, batch["chosen_tokens"].shape[1]
        )
        for part in ("tokens", "response")
    )
    mask = jnp.repeat(batch["mask"], len(SIDES))
    return row_log_probs(family, params, tokens, response, mask).reshape(-1, len(SIDES))


def row_log_probs(
    family: Autoregressive, params: Params, tokens: jax.Array, response: jax.Array, mask: jax.Array
) -> jax.Array:
    """Compute the summed log-probability [N] of the tokens int32 [N, T] for which ``response``
    [N, T] is 1, in nats; rows with ``mask`` [N] 0 are left out.
    """
    found = family.predict(params, {"tokens": tokens, "loss_mask": response, "mask": mask})
    return -(found.nll * found.weight).sum(1)


def count_tokens(batch: Batch) -> jax.Array:
    """Count the predicted tokens of both responses of each pair, at least 1: [B, 2]."""
    counts = jnp.stack([batch[f"{side}_response"][:, 1:].sum(1) for side in SIDES], 1)
    return jnp.maximum(counts, 1)


def measure_drift(
    family: Autoregressive,
    params: Params,
    reference: Params,
    batch: Batch,
    axis: str | None = None,
) -> jax.Array:
    """Estimate how many nats a response gained whatever its prompt: the mean log-ratio to the
    reference of each chosen response after the prompt of the row before, at least 0, without
    gradient.

    Args:
      params: merged parameters of the policy.
      reference: those of the reference.
      batch: pairs; rows with mask 0 do not count.
      axis: mapped axis; responses stay on their device, and the mean is over all devices.
    """
    tokens, response = swap_responses(batch)
    mask = batch["mask"] * jnp.roll(batch["mask"], 1)
    gained = row_log_probs(family, params, tokens, response, mask) - row_log_probs(
        family, reference, tokens, response, mask
    )
    total, count = (gained * mask).sum(), mask.sum()
    if axis is not None:
        total, count = jax.lax.psum((total, count), axis)
    return jax.lax.stop_gradient(jnp.maximum(total / jnp.maximum(count, 1), 0))


def swap_responses(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Put the chosen response of each row after the prompt of the row before: tokens and response
    mask [B, T]. What does not fit into a row is cut.
    """
    tokens, real, said = (batch[f"chosen_{part}"] for part in ("tokens", "mask", "response"))
    length, place = tokens.shape[1], jnp.arange(tokens.shape[1])[None]
    starts = jnp.argmax(said > 0, 1)[:, None]  # lengths of the prompts
    place = place - jnp.roll(starts, 1, 0)  # in the response
    source = jnp.clip(place + starts, 0, length - 1)
    taken, said = (jnp.take_along_axis(x, source, 1) for x in (tokens, said * real))
    moved = jnp.where(place >= 0, taken, jnp.roll(tokens, 1, 0))
    return moved, jnp.where((place >= 0) & (place + starts < length), said, 0)


def _stack_references(known: Batch) -> jax.Array:
    """Stack the reference's log-probabilities of both responses: [B, 2]."""
    return jnp.stack([known[f"{side}_reference"] for side in SIDES], 1)
