"""Process rewards: a score for each step of a response instead of one for the whole.

Lightman et al., arXiv 2305.20050; their use in GRPO is that of Shao et al., arXiv 2402.03300,
section 4.1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import ends_of
from genjax.errors import UserError
from genjax.families.rewards import decode_rows, to_float32
from genjax.posttrain.rollouts import Rollout

# Prompts and the steps of each response, [N] lists of texts, to a list of numbers each.
StepReward = Callable[[Sequence[str], Sequence[Sequence[str]]], Any]


class StepScores(NamedTuple):
    """Scores of the steps of responses, at the tokens that end them.

    Attributes:
      scores: float32 [B, N], 0 where no step ends.
      ends: float32 [B, N], 1 where a step ends.
    """

    scores: jax.Array
    ends: jax.Array


def find_step_ends(tokens: np.ndarray, real: np.ndarray, codec: Component, end: str) -> np.ndarray:
    """Return where a step ends, bool [B, N]: at tokens whose text contains ``end``, and at the last
    token of a response. The end token belongs to the last step.

    Args:
      tokens: responses int32 [B, N].
      real: bool [B, N], False after the end of a response.
      codec: codec of the tokens.
      end: text that ends a step.

    Raises:
      UserError: no token of the codec contains ``end``.
    """
    stops = ends_of(codec)
    marks = np.array([t not in stops and end in codec.decode([t]) for t in range(codec.vocabulary)])
    if not marks.any():
        raise UserError(
            f"step_end must be a part of one of the codec's tokens, got {end!r}", "family.step_end"
        )
    lengths, said = real.sum(1), (real & ~np.isin(tokens, stops)).sum(1)
    place = np.arange(tokens.shape[1])[None]
    last = place == np.maximum(lengths - 1, 0)[:, None]
    # A mark before the end token does not begin another step.
    return last | (marks[tokens] & (place < said[:, None] - 1))


def score_steps(
    reward: StepReward, codec: Component, end: str, drawn: Rollout, longest: int
) -> StepScores:
    """Score each step of drawn responses; the first ``longest`` tokens are the prompt.

    Raises:
      UserError: the function fails, or does not return a finite number for each step.
    """
    tokens, real = np.asarray(drawn.tokens), np.asarray(drawn.real)
    prompts = decode_rows(codec, tokens[:, :longest], real[:, :longest])
    tokens, real = tokens[:, longest:], real[:, longest:]
    ends = find_step_ends(tokens, real, codec, end)
    steps = [_split(codec, *row) for row in zip(tokens, ends, strict=True)]
    name = getattr(reward, "__name__", str(reward))
    try:
        found = [to_float32(list(one)) for one in reward(prompts, steps)]
    except Exception as error:
        raise UserError(f"the reward {name} failed: {type(error).__name__}: {error}") from error
    scores = np.zeros(tokens.shape, np.float32)
    if len(found) != len(steps):
        raise UserError(
            f"the reward {name} must return a list for each of {len(steps)} responses, got "
            f"{len(found)}"
        )
    for row, (said, given) in enumerate(zip(steps, found, strict=True)):
        if given.shape != (len(said),) or not np.isfinite(given).all():
            raise UserError(
                f"the reward {name} must return a finite number for each of the {len(said)} steps "
                f"of a response, got {given.tolist()} for {said}"
            )
        scores[row, ends[row]] = given
    return StepScores(jnp.asarray(scores), jnp.asarray(ends, jnp.float32))


def _split(codec: Component, tokens: np.ndarray, ends: np.ndarray) -> list[str]:
    """Split a response [N] into the texts of its steps."""
    parts = np.split(tokens, np.flatnonzero(ends) + 1)[:-1]
    stops = ends_of(codec)
    return [codec.decode(part[~np.isin(part, stops)]) for part in parts]


def compute_step_advantages(
    judged: StepScores, group: int, scale_by_std: bool, least_std: float
) -> tuple[jax.Array, jax.Array]:
    """Return the advantage of each token [B, N]: the sum of the normalised scores of the steps that
    end at it or later; and whether all scores of its group are equal, bool [B].

    Scores are normalised by the mean and the (biased) standard deviation of all steps of a group.

    Args:
      judged: scores of the steps, the responses of a group consecutive.
      group: responses per prompt.
      scale_by_std: whether to divide by the standard deviation.
      least_std: number added to it.
    """
    scores, ends = (x.reshape(-1, group * x.shape[1]) for x in judged)
    count = ends.sum(1, keepdims=True)
    mean = (scores * ends).sum(1, keepdims=True) / count
    lowest = jnp.where(ends > 0, scores, jnp.inf).min(1, keepdims=True)
    highest = jnp.where(ends > 0, scores, -jnp.inf).max(1, keepdims=True)
    tied = lowest == highest
    better = jnp.where(tied, 0.0, (scores - mean) * ends)
    if scale_by_std:
        better = better / (jnp.sqrt(jnp.square(better).sum(1, keepdims=True) / count) + least_std)
    better = better.reshape(judged.scores.shape)
    return jnp.cumsum(better[:, ::-1], 1)[:, ::-1], jnp.repeat(tied[:, 0], group)
