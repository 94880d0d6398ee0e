"""Extracts prompts from rows of tokens, and scores responses with a plain reward function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import ends_of
from genjax.errors import UserError

Reward = Callable[[Sequence[str], Sequence[str]], Any]  # prompts and responses [N] to numbers [N]
SHOWN = 80  # characters of a text shown in a message


def extract_prompts(
    tokens: jax.Array, prefix_mask: jax.Array, longest: int
) -> tuple[jax.Array, jax.Array]:
    """Extract the prompts of rows, left-padded for ``generate``: int32 [B, longest], and a mask,
    bool [B, longest].

    Args:
      tokens: int32 [B, T].
      prefix_mask: [B, T], 1 for the prompt, which has at most ``longest`` tokens.
    """
    sizes = jnp.sum(prefix_mask > 0, 1, keepdims=True)
    place = jnp.arange(longest)[None] - longest + sizes
    return jnp.take_along_axis(tokens, jnp.maximum(place, 0), 1), place >= 0


def decode_rows(codec: Component, tokens: np.ndarray, real: np.ndarray) -> list[str]:
    """Decode each row of tokens [N, T] where ``real`` [N, T] is true, without its end token."""
    rows = [row[mask] for row, mask in zip(tokens, real.astype(bool), strict=True)]
    ends = ends_of(codec)
    kept = [row[:-1] if len(row) and row[-1] in ends else row for row in rows]
    return [codec.decode(row) for row in kept]


def score_texts(reward: Reward, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """Return the rewards of responses to prompts, float32 [N].

    Raises:
      UserError: the function raises, or returns another number of rewards or one that is not
          finite; the message quotes the prompt and the response.
    """
    name = getattr(reward, "__name__", str(reward))
    try:
        found = to_float32(reward(list(prompts), list(responses)))
    except Exception as error:
        which = _find_failing(reward, prompts, responses)
        raise UserError(
            f"the reward {name} failed{which}: {type(error).__name__}: {error}"
        ) from error
    if found.shape != (len(prompts),):
        raise UserError(
            f"the reward {name} must return one number per response, {len(prompts)}, got an array "
            f"of shape {list(found.shape)}; the first is "
            f"{_describe_response(prompts[0], responses[0])}"
        )
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise UserError(
            f"the reward {name} must be finite, got {found[bad[0]]} for "
            f"{_describe_response(prompts[bad[0]], responses[bad[0]])}"
        )
    return found


def to_float32(rewards: Any) -> np.ndarray:
    """Convert the output of a reward function to float32; numbers too large become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(rewards, np.float64).astype(np.float32)


def _find_failing(reward: Reward, prompts: Sequence[str], responses: Sequence[str]) -> str:
    """Name the response on which the reward fails alone; "" if it fails only on several
    together.
    """
    for prompt, response in zip(prompts, responses, strict=True):
        try:
            to_float32(reward([prompt], [response]))
        except Exception:
            return f" on {_describe_response(prompt, response)}"
    return ""


def _describe_response(prompt: str, response: str) -> str:
    one, other = (text if len(text) <= SHOWN else f"{text[:SHOWN]}…" for text in (prompt, response))
    return f"the response {other!r} to the prompt {one!r}"
