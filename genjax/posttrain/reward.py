"""Reward models: scores of responses, learned from pairwise preferences.

Christiano et al., arXiv 1706.03741; for language models Ouyang et al., arXiv 2203.02155. Centred
rewards: Eisenstein et al., arXiv 2312.09244.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.preferences import (
    encode_answer,
    fit_answer,
    pad_rows,
    single_prompt,
)
from genjax.data.chat.template import ChatCodec
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.family import (
    Batch,
    Family,
    Mean,
    Metrics,
    Params,
    State,
    Variables,
    apply,
    gradient_step,
)
from genjax.losses import preference_loss
from genjax.nets.transformer.token_backbone import TokenBackbone
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Rules

LEAST_DEVIATION = 1e-6  # for rewards that are all the same, as at step 0


class RewardNetwork(nn.Module):
    """A backbone and a linear head initialised to 0: tokens int32 [B, T], -1 for padding -> rewards
    float32 [B].
    """

    backbone: nn.Module

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        features = self.backbone(tokens, train=train)
        # Always in float32: half precision would tie close rewards. Preferences do not determine a
        # bias.
        head = nn.Dense(
            1, use_bias=False, kernel_init=nn.initializers.zeros, dtype=jnp.float32, name="head"
        )
        return head(features)[:, 0]


@checks.frozen
class RewardModel(Family):
    """A reward model: the chosen response is preferred with probability sigmoid(its reward - the
    other's).

    This is the model of Bradley and Terry (1952), which does not determine a constant per prompt.
    Rewards are read at the last token. ``score`` normalises them to mean 0 and standard deviation 1
    over training responses, by moving averages over the batches in ``State.variables``, which lag
    behind while rewards still grow.

    Metrics: ``accuracy``, where a tie counts half; ``margin``, the mean difference of the rewards;
    and their means ``chosen_reward`` and ``rejected_reward``.

    Attributes:
      net: ``TokenBackbone`` with pool "last"; its Transformer may be causal.
      label_smoothing: assumed share of wrong choices, in training only.
      centring: weight of (sum of both rewards)^2 in the loss, which pulls rewards to 0, in training
          only.
      decay: decay of the moving averages; in the first steps they average all steps equally.
    """

    no_samples: ClassVar[str | None] = (
        "a reward model draws no samples; `python -m genjax evaluate` judges it"
    )

    net: Component = TokenBackbone(Transformer(), "last")
    label_smoothing: float = 0.0
    centring: float = 0.0
    decay: float = 0.95

    key_numbers: ClassVar[tuple[str, ...]] = ("accuracy", "margin")

    def __post_init__(self) -> None:
        if not isinstance(self.net, TokenBackbone) or self.net.pool != "last":
            raise UserError(
                'net must be a TokenBackbone with pool "last": rewards are read at the last token',
                "net",
            )
        checks.numbers(
            self, ("label_smoothing",), "at least 0 and below 0.5", lambda x: 0 <= x < 0.5
        )
        checks.at_least(self, 0, "centring")
        checks.share(self, "decay")

    def init(self, key: jax.Array, example: Batch, spec: Spec) -> tuple[Params, Variables]:
        if not spec.preferences or spec.vocabulary is None:
            raise UserError(
                f"a reward model needs pairs of responses, but the data are {spec.entry}"
            )
        context = self.net.net.context
        if spec.shape[0] > context:
            raise UserError(
                f"family.net.net.context must be >= {spec.shape[0]} (row of the data), got "
                f"{context}",
                "family.net.net.context",
            )
        params = RewardNetwork(self.net.backbone(vocabulary=spec.vocabulary)).init(
            key, example["chosen_tokens"]
        )["params"]
        return params, {"mean": jnp.zeros(()), "variance": jnp.ones(())}

    def train_step(
        self, state: State, batch: Batch, *, optimizer: Rules, axis: str | None = None
    ) -> tuple[State, Metrics]:
        def loss(
            params: Params, variables: Variables, batch: Batch, key: jax.Array
        ) -> tuple[Metrics, Variables]:
            chosen, rejected = self._score_pairs(params, batch, key)
            losses = preference_loss(chosen - rejected, self.label_smoothing)
            losses = losses + self.centring * jnp.square(chosen + rejected)
            squared = jnp.square(jnp.stack([chosen, rejected]) - variables["mean"]).mean(0)
            mask = batch["mask"]
            metrics = _metrics(chosen, rejected, mask)
            return metrics | {
                "loss": Mean.of(losses, mask),
                "squared": Mean.of(squared, mask),
            }, variables

        state, metrics = gradient_step(loss, optimizer, state, batch, state.step_key, axis=axis)
        squared = metrics.pop("squared").value
        # Over the whole batch, so that devices and microbatches make no difference.
        shift = (
            metrics["chosen_reward"].value + metrics["rejected_reward"].value
        ) / 2 - state.variables["mean"]
        part = jnp.maximum(1 - self.decay, 1 / (1 + state.step))
        moved = {
            "mean": state.variables["mean"] + part * shift,
            "variance": (1 - part) * state.variables["variance"]
            + part * squared
            - jnp.square(part * shift),
        }
        skipped = metrics["skipped"].sum > 0
        variables = {
            name: jnp.where(skipped, state.variables[name], value) for name, value in moved.items()
        }
        return state.replace(step=state.step + 1, variables=variables), metrics

    def evaluate(self, state: State, batch: Batch, key: jax.Array) -> Metrics:
        chosen, rejected = self.score_pairs(state, batch)
        losses = preference_loss(chosen - rejected)
        return {"loss": Mean.of(losses, batch["mask"]), **_metrics(chosen, rejected, batch["mask"])}

    def score_pairs(self, state: State, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return the rewards of the chosen and of the rejected responses, [B] each."""
        return self._score_pairs(state.params, batch)

    def score_rows(self, state: State, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Return the raw rewards [B] of tokens int32 [B, T]; the mask [B, T] is 1 for tokens and 0
        for padding after them.
        """
        return self._score_rows(state.params, jnp.where(mask > 0, tokens, -1))

    def _score_pairs(
        self, params: Params, batch: Batch, dropout: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        sides = [
            jnp.where(batch[f"{side}_mask"] > 0, batch[f"{side}_tokens"], -1)
            for side in ("chosen", "rejected")
        ]
        # One pass with interleaved pairs, so that a sharded batch does not move.
        tokens = jnp.stack(sides, 1).reshape(-1, sides[0].shape[-1])
        rewards = self._score_rows(params, tokens, dropout).reshape(-1, 2)
        return rewards[:, 0], rewards[:, 1]

    def _score_rows(
        self, params: Params, tokens: jax.Array, dropout: jax.Array | None = None
    ) -> jax.Array:
        """Compute rewards [B] of tokens [B, T], -1 for padding; a ``dropout`` key means
        training.
        """
        vocabulary = len(params["backbone"]["tokens"]["embedding"])
        rngs = {} if dropout is None else {"dropout": dropout}
        network = RewardNetwork(self.net.backbone(vocabulary=vocabulary))
        return apply(network, params, tokens, rngs=rngs, train=dropout is not None)


@functools.partial(jax.jit, static_argnums=0)
def score(family: RewardModel, state: State, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Compute rewards [B], normalised to mean 0 and standard deviation 1 over training responses.

    Args:
      tokens: int32 [B, T], prompts with their response, as in training.
      mask: [B, T], 1 for tokens, 0 for padding after them.
    """
    deviation = jnp.maximum(jnp.sqrt(state.variables["variance"]), LEAST_DEVIATION)
    return (family.score_rows(state, tokens, mask) - state.variables["mean"]) / deviation


def score_responses(
    family: RewardModel,
    state: State,
    codec: ChatCodec,
    prompts: Sequence[str],
    responses: Sequence[str],
    length: int,
    chunk: int = 32,
) -> np.ndarray:
    """Compute ``score`` [N] of a response to each prompt, both as text.

    Args:
      state: state of the reward model.
      codec: codec of the run.
      length: tokens per row, as in training; long prompts are cut at the start, long responses at
        the end.
      chunk: rows scored at once.

    Raises:
      UserError: the numbers of prompts and responses differ, a response is empty, or a text is
          outside the vocabulary; the message counts prompts from 1.
    """
    if len(prompts) != len(responses):
        raise UserError(
            f"responses must be one per prompt, {len(prompts)}, got {len(responses)}", "responses"
        )
    rows = []
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True), 1):
        turns = single_prompt(codec.template, prompt, response)
        answer, asked = encode_answer(codec, *turns, f"prompt {number:,}")
        rows.append(fit_answer(codec, answer, asked, length)[0].tokens[:length])
    found = []
    for first in range(0, len(rows), chunk):
        part = rows[first : first + chunk]
        part += [part[0]] * (chunk - len(part))  # one compiled size
        found.append(np.asarray(score(family, state, *pad_rows(part, length, codec.pad or 0))))
    return np.concatenate([np.zeros(0, np.float32), *found])[: len(rows)]


def _metrics(chosen: jax.Array, rejected: jax.Array, mask: jax.Array) -> Metrics:
    margin = chosen - rejected
    return {
        "accuracy": Mean.of((jnp.sign(margin) + 1) / 2, mask),
        "margin": Mean.of(margin, mask),
        "chosen_reward": Mean.of(chosen, mask),
        "rejected_reward": Mean.of(rejected, mask),
    }
