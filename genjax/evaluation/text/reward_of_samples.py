"""Scores responses to held-out prompts with a reward function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.drawn import Drawn
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.continuation import continue_prompts
from genjax.families.rewards import decode_rows, extract_prompts, score_texts
from genjax.family import Batch, State
from genjax.samplers.tokens.decoding import Prompts, TokenSampler


@checks.frozen
class RewardOfSamples(Evaluator):
    """Measures the mean reward of a response to each prompt of a split, and its standard error,
    ``NAME_error``.

    Attributes:
      reward: function of prompts and responses, lists of texts, that returns a number for each
          response.
      name: name of the number.
      steps: maximum number of tokens of a response.
      temperature: sampling temperature; 0 takes the most likely tokens.
      limit: number of prompts, evenly spaced over the split; None for all.
    """

    judges: ClassVar[tuple[type, ...]] = (Autoregressive,)

    reward: Component
    name: str = "reward"
    steps: int = 64
    temperature: float = 1.0
    limit: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.reward):
            raise UserError(
                f"reward must be a function of prompts and responses, got {self.reward!r}", "reward"
            )
        checks.at_least(self, 1, "steps")
        checks.at_least(self, 2, "limit")
        checks.at_least(self, 0, "temperature")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if not spec.prefixed or spec.source_length is not None:
            raise UserError("RewardOfSamples needs prompts: data with a prefix_mask and no source")
        if self.steps > family.net.context:
            raise UserError(
                f"steps must be <= {family.net.context} (context), got {self.steps}", "steps"
            )

    def __call__(self, subject: Subject) -> Findings:
        codec: Component = subject.model.codec
        part = subject.select_part(self.limit)
        if len(part) < 2:
            raise UserError(
                f"RewardOfSamples needs at least 2 prompts, but {subject.split} has {len(part)}"
            )
        longest = int(part.batch(np.arange(len(part)))["prefix_mask"].sum(1).max())
        sampler = TokenSampler(self.steps, temperature=self.temperature)
        prompts, asked, responses, inside = subject.collect(
            _draw_responses, sampler, longest, codec.end, limit=self.limit
        )
        said, texts = decode_rows(codec, prompts, asked), decode_rows(codec, responses, inside)
        rewards = score_texts(self.reward, said, texts).astype(np.float64)
        error = rewards.std(ddof=1) / math.sqrt(len(rewards))
        return Findings(
            {self.name: float(rewards.mean()), f"{self.name}_error": float(error)},
            protocol=f"a response to each of {len(rewards):,} prompts of {subject.split}, at most "
            f"{self.steps} tokens, "
            f"temperature {self.temperature}",
            drawn=Drawn(prompts=said, texts=texts, scores={self.name: rewards}),
        )


def _draw_responses(
    family: Autoregressive,
    state: State,
    batch: Batch,
    key: jax.Array,
    sampler: TokenSampler,
    longest: int,
    end: int | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draw responses [B, steps] to prompts [B, longest]; return both, each with a mask that is
    False at padding.
    """
    prompts, asked = extract_prompts(batch["tokens"], batch["prefix_mask"], longest)
    # Padding rows have no prompt; one token keeps their numbers finite.
    asked = asked.at[:, -1].set(True)
    stops = () if end is None else ((end,),)
    drawing = continue_prompts(
        family, state.params, Prompts(prompts, asked), sampler, key, stops, end or 0
    )
    inside = jnp.arange(sampler.steps)[None] < drawing.lengths[:, None]
    return prompts, asked, drawing.tokens, inside
