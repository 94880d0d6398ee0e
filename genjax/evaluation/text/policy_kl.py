"""Measures the KL from a policy to the model that it started as, in nats per response."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.families.rewards import extract_prompts
from genjax.family import Batch, State
from genjax.losses import kl_k1
from genjax.posttrain.continued import BASE, FromBase
from genjax.samplers.tokens.decoding import Prompts, TokenSampler


@checks.frozen
class PolicyKL(Evaluator):
    """Measures KL(policy || reference) of responses to the prompts of preference pairs, for
    families that keep a reference.

    The policy draws a response to each prompt at temperature 1 without filters. ``policy_kl`` is
    the mean over prompts of log p of the response minus that under the reference, in nats,
    ``policy_kl_error`` its standard error, and ``policy_length`` the mean number of tokens drawn,
    including the end.

    Attributes:
      steps: maximum number of tokens of a response; longer ones are cut.
      limit: number of prompts, evenly spaced over the split; None for all.
    """

    steps: int = 64
    limit: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "steps")
        checks.at_least(self, 2, "limit")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if not isinstance(family, FromBase) or not isinstance(family.wrapped, Autoregressive):
            raise UserError(
                f"PolicyKL needs a family that keeps a reference, such as DPO, got a "
                f"{type(family).__name__}"
            )
        if self.steps > family.wrapped.net.context:
            raise UserError(
                f"steps must be <= {family.wrapped.net.context} (context), got {self.steps}",
                "steps",
            )
        if not spec.preferences:
            raise UserError(f"PolicyKL needs pairs of responses, but the data are {spec.entry}")

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        part = subject.select_part(self.limit)
        if len(part) < 2:
            raise UserError(
                f"PolicyKL needs at least 2 prompts, but {subject.split} has {len(part)}"
            )
        longest = int(_prefixes(part.batch(np.arange(len(part)))).sum(1).max())
        gained, counts = subject.collect(
            _draw_responses, TokenSampler(self.steps), longest, codec.end, limit=self.limit
        )
        gained = gained.astype(np.float64)
        return Findings(
            {
                "policy_kl": float(gained.mean()),
                "policy_kl_error": float(gained.std(ddof=1) / math.sqrt(len(gained))),
                "policy_length": float(counts.mean()),
            },
            protocol=f"a response to each of {len(gained):,} prompts of {subject.split}, at most "
            f"{self.steps} tokens, "
            "temperature 1, against the model that it began as",
        )


def _prefixes(batch: Mapping[str, Any]) -> Any:
    """Return a mask [B, T]: 1 for the tokens of prompts."""
    return batch["chosen_mask"] - batch["chosen_response"]


def _draw_responses(
    family: Component,
    state: State,
    batch: Batch,
    key: jax.Array,
    sampler: TokenSampler,
    longest: int,
    end: int | None,
) -> tuple[jax.Array, jax.Array]:
    """Draw a response to each prompt; return its log-ratio to the reference and its number of
    tokens, [B] each.
    """
    prompts, asked = extract_prompts(batch["chosen_tokens"], _prefixes(batch), longest)
    # Padding rows have no prompt; one token keeps their numbers finite.
    asked = asked.at[:, -1].set(True)
    stops = () if end is None else ((end,),)
    drawing = continue_prompts(
        family.base, state.params, Prompts(prompts, asked), sampler, key, stops, end or 0
    )
    inside = jnp.arange(sampler.steps)[None] < drawing.lengths[:, None]
    real = jnp.concatenate([asked, inside], 1).astype(jnp.int32)
    rows = {
        "tokens": jnp.concatenate([prompts, drawing.tokens], 1),
        "loss_mask": jnp.concatenate([jnp.zeros(asked.shape), inside], 1),
        "mask": jnp.ones(len(prompts)),
        "segment_ids": real,
        "positions": jnp.maximum(jnp.cumsum(real, 1) - 1, 0),
    }

    def log_probs(params: Any) -> jax.Array:
        found = family.base.predict(params, rows)
        return -(found.nll * found.weight)

    gained = kl_k1(log_probs(state.params), log_probs(state.frozen[BASE]["params"])).sum(1)
    return gained, drawing.lengths
