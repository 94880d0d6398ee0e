"""Prompts taken from rows of tokens, and what a plain function thinks of the responses to them."""

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
SHOWN = 80  # characters of a text in a message


def extract_prompts(
    tokens: jax.Array, prefix_mask: jax.Array, longest: int
) -> tuple[jax.Array, jax.Array]:
    """What rows start with as ``generate`` reads it, left-padded: int32 [B, longest], bool [B,
    longest].

    Args:
      tokens: int32 [B, T].
      prefix_mask: [B, T], 1 for the prompt, at most ``longest`` tokens.
    """
    sizes = jnp.sum(prefix_mask > 0, 1, keepdims=True)
    place = jnp.arange(longest)[None] - longest + sizes
    return jnp.take_along_axis(tokens, jnp.maximum(place, 0), 1), place >= 0


def decode_rows(codec: Component, tokens: np.ndarray, real: np.ndarray) -> list[str]:
    """Return the text of each row of tokens [N, T] where ``real`` [N, T] is true, before its end."""
    rows = [row[mask] for row, mask in zip(tokens, real.astype(bool), strict=True)]
    ends = ends_of(codec)
    kept = [row[:-1] if len(row) and row[-1] in ends else row for row in rows]
    return [codec.decode(row) for row in kept]


def score_texts(reward: Reward, prompts: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """Return the rewards [N] float32 of responses to prompts.

    Raises:
      UserError: the function raises, gives another number of rewards, or one that is not a finite
        number; the prompt and the response are named.
    """
    name = getattr(reward, "__name__", str(reward))
    try:
        found = numbers(reward(list(prompts), list(responses)))
    except Exception as error:
        which = _find_failing(reward, prompts, responses)
        raise UserError(
            f"the reward {name} failed{which}: {type(error).__name__}: {error}"
        ) from error
    if found.shape != (len(prompts),):
        raise UserError(
            f"the reward {name} gives one number for each response, but for {len(prompts)} it gave "
            "an array of shape "
            f"{list(found.shape)}; the first is {_describe_response(prompts[0], responses[0])}"
        )
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise UserError(
            f"the reward {name} is {found[bad[0]]} of "
            f"{_describe_response(prompts[bad[0]], responses[bad[0]])}"
        )
    return found


def numbers(rewards: Any) -> np.ndarray:
    """As a reward gives them, float32; what is too large for that is infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(rewards, np.float64).astype(np.float32)


def _find_failing(reward: Reward, prompts: Sequence[str], responses: Sequence[str]) -> str:
    """Which response it fails on alone; "" where it fails on several together only."""
    for prompt, response in zip(prompts, responses, strict=True):
        try:
            numbers(reward([prompt], [response]))
        except Exception:
            return f" on {_describe_response(prompt, response)}"
    return ""


def _describe_response(prompt: str, response: str) -> str:
    one, other = (text if len(text) <= SHOWN else f"{text[:SHOWN]}…" for text in (prompt, response))
    return f"the response {other!r} to the prompt {one!r}"
