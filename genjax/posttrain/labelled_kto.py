"""KTO on single answers: each is good or bad, and no prompt needs two.

Ethayarajh et al., arXiv 2402.01306.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.labelled import CLASSES
from genjax.data.dataset import Spec
from genjax.data.text.augment import real_mask
from genjax.errors import UserError
from genjax.family import (
    Batch,
    Family,
    Mean,
    Metrics,
    Params,
    State,
    Trained,
    Variables,
)
from genjax.optim import Rules
from genjax.posttrain import adapters
from genjax.posttrain.adapters import Adapters
from genjax.posttrain.continued import BASE, FromBase
from genjax.posttrain.paired import measure_drift, row_log_probs, step_policy, take_policy
from genjax.posttrain.rollouts import check_policy


@checks.frozen
class LabelledKTO(FromBase):
    """Trains a language model on answers that are labelled desirable or undesirable.

    With r an answer's log-probability under the policy minus that under the reference, the initial
    model, and z what answers gained whatever their prompt, the loss is 1 - sigmoid(beta (r - z))
    for a desirable answer and 1 - sigmoid(beta (z - r)) for an undesirable one, times its weight;
    that of a batch is the mean over all. As in the paper, z is the mean log-ratio of the batch's
    answers after the prompts of other rows, at least 0 and without gradient; a step so costs two
    more passes. Devices that are mapped and microbatches swap answers within their own rows.

    The paper advises weights with desirable n_D / (undesirable n_U) between 1 and 4/3, n_D and n_U
    being the numbers of answers, which the source prints.

    Dropout is off. The reference's log-probabilities are computed once for all training examples.

    Metrics: ``accuracy``, the share of answers with r on their side of z; ``desirable_reward`` and
    ``undesirable_reward``, means of beta r over the answers of each label; ``drift``, which is z,
    in nats per answer.

    Attributes:
      base: run directory of an Autoregressive model: the initial policy, and the reference.
      beta: how soon a gain or a loss counts in full; the lower, the further the policy may go.
      desirable: weight of desirable answers.
      undesirable: weight of undesirable answers.
      adapters: LoRA adapters to train instead of all parameters; the reference then shares the base
        weights. None trains all parameters.
      sampler: sampling options; None uses the base's.
    """

    base: Component = "runs/sft_instructions"
    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0
    adapters: Adapters | None = dataclasses.field(default=None, kw_only=True)

    key_numbers: ClassVar[tuple[str, ...]] = ("accuracy", "drift")

    def __post_init__(self) -> None:
        checks.above(self, 0, "beta")
        checks.at_least(self, 0, "desirable", "undesirable")

    def resolve(self, others: Mapping[str, Trained], spec: Spec) -> LabelledKTO:
        base = others[BASE]
        if spec.preferences or spec.vocabulary is None or spec.class_names != CLASSES:
            raise UserError(
                "LabelledKTO needs single answers with a label (LabelledAnswers), but the data are "
                f"{'pairs' if spec.preferences else spec.entry}",
                "data",
            )
        check_policy("LabelledKTO", base, spec)
        if spec.shape[0] - 1 > base.family.net.context:
            raise UserError(
                f"data.length must be <= {base.family.net.context + 1} (context of "
                f"{base.run_dir}, plus one), got {spec.shape[0]}",
                "data.length",
            )
        return dataclasses.replace(self, base=base.family)

    def check_batch(self, batch_size: int, rows: int, accumulate: int) -> None:
        if rows // accumulate < 2:
            raise UserError(
                "batch_size must leave >= 2 answers to a device and microbatch, which KTO swaps, "
                f"got {rows // accumulate}",
                "batch_size",
            )

    def wrapped_spec(self, spec: Spec) -> Spec:
        return dataclasses.replace(spec, classes=None, class_names=None)

    @property
    def evaluated_as(self) -> Family:
        return self

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        policy, _ = self.base.init(key, example, self.wrapped_spec(spec))
        return adapters.init_trainable(self.adapters, key, policy), {}

    def initial_params(self, state: State) -> tuple[Params, Variables]:
        learned = state.frozen[BASE]["params"]
        return adapters.copy_learned(self.adapters, state.params, learned), state.variables

    def precompute(self, state: State, batch: Batch) -> Batch:
        """Compute the log-probability [B] of each answer under the reference: ``reference``."""
        return {"reference": self._log_probs(state.frozen[BASE]["params"], batch)}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def judge(params: Params, batch: Batch) -> Metrics:
            known = batch if "reference" in batch else self.precompute(state, batch)
            learned = state.frozen[BASE]["params"]
            return self._judge(params, learned, batch, known["reference"], axis)

        return step_policy(judge, self.adapters, state, batch, optimizer, axis)

    def eval_state(self, state: State) -> State:
        """Return the state of the policy, with the reference in ``frozen``."""
        return self.base.eval_state(take_policy(self.adapters, state))

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        reference = state.frozen[BASE]["params"]
        known = self._log_probs(reference, batch)
        return self._judge(state.params, reference, batch, known, None)

    def _log_probs(self, params: Params, batch: Batch) -> jax.Array:
        tokens, said = batch["tokens"], batch["loss_mask"]
        return row_log_probs(self.base, params, tokens, said, batch["mask"])

    def _judge(
        self, params: Params, reference: Params, batch: Batch, known: jax.Array, axis: str | None
    ) -> Metrics:
        """Compute the loss and the metrics by merged parameters."""
        gained = self._log_probs(params, batch) - known  # [B]
        answers = {
            "chosen_tokens": batch["tokens"],
            "chosen_mask": real_mask(batch).astype(jnp.float32),
            "chosen_response": batch["loss_mask"],
            "mask": batch["mask"],
        }
        drift = measure_drift(self.base, params, reference, answers, axis)
        good, mask = batch["label"] > 0, batch["mask"]
        ahead = self.beta * (gained - drift)
        losses = jnp.where(
            good,
            self.desirable * (1 - jax.nn.sigmoid(ahead)),
            self.undesirable * (1 - jax.nn.sigmoid(-ahead)),
        )
        right = (jnp.sign(jnp.where(good, ahead, -ahead)) + 1) / 2
        return {
            "loss": Mean.of(losses, mask),
            "accuracy": Mean.of(right, mask),
            "desirable_reward": Mean.of(self.beta * gained, mask * good),
            "undesirable_reward": Mean.of(self.beta * gained, mask * ~good),
            "drift": Mean.of(jnp.broadcast_to(drift, mask.shape), mask),
        }
