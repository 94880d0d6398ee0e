"""DPO: trains a language model on preferences between responses, close to where it started.

Rafailov et al., arXiv 2305.18290. IPO: Azar et al., arXiv 2310.12036. Conservative DPO: Mitchell,
2023.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
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
from genjax.losses import preference_loss
from genjax.optim import Rules
from genjax.posttrain import adapters
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE, FromBase
from genjax.posttrain.rollouts import check_policy

Form = Literal["sigmoid", "ipo"]


@checks.frozen
class DPO(FromBase):
    """Trains a language model on preferences, without a reward model and without sampling.

    The reward of a response is ``beta`` times its log-probability under the policy minus that under
    the reference, the initial model; the margin is the reward of the chosen response minus that of
    the rejected one.

    - "sigmoid": -log sigmoid(margin), which starts at ln 2. - "ipo": (margin / beta - 1 / (2
    beta))^2, where beta is the paper's tau; it pulls margins to 1/2.

    The log-probability of a response is the sum over its tokens, end token included, as in both
    papers. Dropout is off. The reference's log-probabilities are computed once for all training
    examples, in float32.

    The policy, an ``Autoregressive`` model, is sampled and exported; DPO itself is evaluated on
    held-out pairs.

    Metrics, means over pairs: ``accuracy``, the share of margins above 0, where a tie counts half;
    ``margin``; ``chosen_reward`` and ``rejected_reward``; ``chosen_log_prob``, in nats per
    response, which may fall while the margin grows; and ``log_ratio``, the mean log-ratio to the
    reference, in nats per token. No response is drawn, so none of these is the KL to the reference:
    see ``genjax.evaluation.text.policy_kl``.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy, and the reference.
      beta: strength of the pull to the reference; the higher, the closer the policy stays.
      form: form of the loss, "sigmoid" or "ipo".
      length_normalised: whether log-probabilities are means over the tokens of a response, as in
        SimPO (Meng et al., arXiv 2405.14734), which has no reference; then multiply beta by about
        the length of a response.
      label_smoothing: assumed share of wrong choices, in training only; for "sigmoid".
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/sft_instructions"
    beta: float = 0.1
    form: Form = "sigmoid"
    length_normalised: bool = False
    label_smoothing: float = 0.0
    adapters: Adapters | None = None

    key_numbers: ClassVar[tuple[str, ...]] = ("accuracy", "margin")

    def __post_init__(self) -> None:
        checks.above(self, 0, "beta")
        checks.numbers(
            self, ("label_smoothing",), "at least 0 and below 0.5", lambda x: 0 <= x < 0.5
        )
        if self.label_smoothing and self.form == "ipo":
            raise UserError(
                'label_smoothing must be 0 with form="ipo", which holds margins at 1/2 without it',
                "label_smoothing",
            )

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> DPO:
        base = others[BASE]
        if not spec.preferences or spec.vocabulary is None:
            raise UserError(f"DPO needs pairs of responses, but the data are {spec.entry}")
        check_policy("DPO", base, spec)
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
        learned = state.frozen[BASE]["params"]
        rule = dataclasses.replace(
            optimizer,
            through=lambda params: adapters.merge_trainable(self.adapters, learned, params),
        )

        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            known = batch if f"{SIDES[0]}_reference" in batch else self.precompute(state, batch)
            return self._compute_metrics(params, known, batch, self.label_smoothing), variables

        state, metrics = gradient_step(loss, rule, state, batch, state.step_key, axis=axis)
        return state.replace(step=state.step + 1), metrics

    def eval_state(self, state: State) -> State:
        """Return the state of the policy, with the reference in ``frozen``."""
        state, base = state.for_eval(), state.frozen[BASE]
        policy = adapters.merge_trainable(self.adapters, base["params"], state.params)
        return self.base.eval_state(
            state.replace(params=policy, variables=base["variables"], ema=None)
        )

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._compute_metrics(state.params, self.precompute(state, batch), batch)

    def score_pairs(self, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the implicit rewards of the chosen and of the rejected responses, [B] each."""
        gained = response_log_probs(self.base, state.params, batch) - _stack_references(
            self.precompute(state, batch)
        )
        rewards = self._compute_rewards(gained, count_tokens(batch))
        return rewards[:, 0], rewards[:, 1]

    def _compute_losses(self, margin: jax.Array, smoothing: float) -> jax.Array:
        if self.form == "ipo":
            return jnp.square((margin - 0.5) / self.beta)
        return preference_loss(margin, smoothing)

    def _compute_rewards(self, gained: jax.Array, sizes: jax.Array) -> jax.Array:
        """Return the rewards [B, 2] for log-ratios to the reference [B, 2] and count_tokens [B,
        2].
        """
        return self.beta * (gained / sizes if self.length_normalised else gained)

    def _compute_metrics(
        self, params: Params, known: Batch, batch: Batch, smoothing: float = 0.0
    ) -> Metrics:
        """Compute the metrics for merged parameters; ``known`` has the log-probabilities of the
        reference.
        """
        mask, sizes = batch["mask"], count_tokens(batch)
        log_probs = response_log_probs(self.base, params, batch)
        gained = log_probs - _stack_references(known)
        rewards = self._compute_rewards(gained, sizes)
        margin = rewards[:, 0] - rewards[:, 1]
        return {
            "loss": Mean.of(self._compute_losses(margin, smoothing), mask),
            "accuracy": Mean.of((jnp.sign(margin) + 1) / 2, mask),
            "margin": Mean.of(margin, mask),
            "chosen_reward": Mean.of(rewards[:, 0], mask),
            "rejected_reward": Mean.of(rewards[:, 1], mask),
            "chosen_log_prob": Mean.of(log_probs[:, 0], mask),
            "log_ratio": Mean(jnp.sum(gained * mask[:, None]), jnp.sum(sizes * mask[:, None])),
        }


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
    rows = {"tokens": tokens, "loss_mask": response, "mask": jnp.repeat(batch["mask"], len(SIDES))}
    found = family.predict(params, rows)
    return -(found.nll * found.weight).sum(1).reshape(-1, len(SIDES))


def count_tokens(batch: Batch) -> jax.Array:
    """Count the predicted tokens of both responses of each pair, at least 1: [B, 2]."""
    counts = jnp.stack([batch[f"{side}_response"][:, 1:].sum(1) for side in SIDES], 1)
    return jnp.maximum(counts, 1)


def _stack_references(known: Batch) -> jax.Array:
    """Stack the reference's log-probabilities of both responses: [B, 2]."""
    return jnp.stack([known[f"{side}_reference"] for side in SIDES], 1)
