"""DPO: a language model learns from pairs of responses which is better, held near to where it
started.

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
    """A trained model of texts continues learning from preferences, without a reward model and
    without draws.

    The reward of a response is ``beta`` times what its log-probability has gained over that by the
    reference, the model that the policy started as; the margin is the reward of the chosen response
    less that of the rejected one.

    - "sigmoid": -log sigmoid(margin), which starts at ln 2.
    - "ipo": (margin / beta - 1 / (2 beta))^2, where beta is the paper's tau, so that margins go to
      1/2 and no farther.

    The log-probability of a response is the sum over its tokens and its end, as in both papers.
    Dropout is off. The reference's are computed once for the training examples, in float32.

    What is sampled from and exported is the policy, an ``Autoregressive`` model; held-out pairs are
    judged by DPO.

    Metrics, means over pairs: ``accuracy``, how often the margin is above 0, where a tie counts
    half; ``margin``; ``chosen_reward`` and ``rejected_reward``; ``chosen_log_prob``, in nats per
    response, which may fall while the margin grows; and ``log_ratio``, the mean gain per token over
    the reference, in nats. No response is drawn, so that none of these is
    the KL to the reference: see ``evaluation.policy_kl``.

    Attributes:
      base: the run directory of an Autoregressive model: where the policy starts, and the
        reference.
      beta: the higher, the nearer to the reference the policy stays.
      form: of the loss, "sigmoid" or "ipo".
      length_normalised: log-probabilities are means over the tokens of a response, as those of
        SimPO (Meng et al., arXiv 2405.14734), which has no reference; multiply beta by about the
        length of a response then.
      label_smoothing: share of the choices assumed to be wrong, in training only; for "sigmoid".
      adapters: train LoRA adapters of the base, so that the reference is the base weights that they
        depend on, and no second copy; None trains all parameters.
      sampler: how samples are drawn; None takes the base's.
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
            raise UserError(f"DPO learns from pairs of responses, but the data are of {spec.entry}")
        check_policy("DPO", base, spec)
        if spec.shape[0] - 1 > base.family.net.context:
            raise UserError(
                f"the rows of the data are of {spec.shape[0]} tokens, more than the context of "
                f"{base.family.net.context} of {base.run_dir} and one"
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
        """What the reference says of both responses: log-probabilities ``chosen_reference``,
        ``rejected_reference``.
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
        """Return the policy, with the reference in ``frozen``."""
        state, base = state.for_eval(), state.frozen[BASE]
        policy = adapters.merge_trainable(self.adapters, base["params"], state.params)
        return self.base.eval_state(
            state.replace(params=policy, variables=base["variables"], ema=None)
        )

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        return self._compute_metrics(state.params, self.precompute(state, batch), batch)

    def score_pairs(self, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the implicit rewards of the chosen and of the rejected responses of a batch, [B]
        each.
        """
        gained = response_log_probs(self.base, state.params, batch) - _stack_references(
            self.precompute(state, batch)
        )
        rewards = self._compute_rewards(gained, lengths(batch))
        return rewards[:, 0], rewards[:, 1]

    def _compute_losses(self, margin: jax.Array, smoothing: float) -> jax.Array:
        if self.form == "ipo":
            return jnp.square((margin - 0.5) / self.beta)
        return preference_loss(margin, smoothing)

    def _compute_rewards(self, gained: jax.Array, sizes: jax.Array) -> jax.Array:
        """Of what both responses have gained over the reference [B, 2] and their lengths [B, 2]."""
        return self.beta * (gained / sizes if self.length_normalised else gained)

    def _compute_metrics(
        self, params: Params, known: Batch, batch: Batch, smoothing: float = 0.0
    ) -> Metrics:
        """Of whole parameters and what the reference is known to say."""
        mask, sizes = batch["mask"], lengths(batch)
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
    """Return log p(response | prompt) of the chosen and the rejected response of each pair, [B, 2],
    in nats.

    Both go through the model in one pass, side by side, so that a batch that is spread over devices
    stays where it is. A response's token without one before it, which no model predicts, does not
    count; nor does a row of mask 0.
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


def lengths(batch: Batch) -> jax.Array:
    """Return tokens of both responses of each pair that are predicted, at least 1, [B, 2]."""
    counts = jnp.stack([batch[f"{side}_response"][:, 1:].sum(1) for side in SIDES], 1)
    return jnp.maximum(counts, 1)


def _stack_references(known: Batch) -> jax.Array:
    """What is known of both responses, [B, 2]."""
    return jnp.stack([known[f"{side}_reference"] for side in SIDES], 1)
