"""Beam search: the most likely continuations that a bounded list of candidates finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.samplers.tokens.decoding import TokenModel


@checks.frozen
class BeamSearch:
    """Keep the most likely unfinished beginnings, and the best finished texts.

    Attributes:
      steps: the most new tokens.
      width: beginnings kept.
      length_penalty: alpha of a text's score log p / ((5 + length) / 6)^alpha (Wu et al., arXiv
        1609.08144); above 0 longer ones gain.
    """

    steps: int = 64
    width: int = 4
    length_penalty: float = 0.6

    def __post_init__(self) -> None:
        checks.between(self, 1, 1_000_000, "steps")
        checks.between(self, 1, 10_000, "width")
        checks.at_least(self, 0, "length_penalty")

    def score(self, log_prob: jax.Array, length: jax.Array | int) -> jax.Array:
        """What texts are ranked by."""
        return log_prob / ((5 + jnp.asarray(length, jnp.float32)) / 6) ** self.length_penalty


class Beams(NamedTuple):
    """Texts found for each row, best first.

    Attributes:
      tokens: int32 [B, W, N], ``pad`` after the end.
      lengths: int32 [B, W], the stop token included; 0 where fewer were found.
      scores: float32 [B, W], -inf where fewer were found.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array


class _Search(NamedTuple):
    live: jax.Array  # int32 [B, W, N]
    log_probs: jax.Array  # float32 [B, W] of the live ones
    logits: jax.Array  # float32 [B, W, V] of what follows them
    found: Beams
    step: jax.Array
    cache: Any


def beam_search(
    model: TokenModel,
    take: Callable[[Any, jax.Array], Any],
    cache: Any,
    prompts: jax.Array,
    mask: jax.Array,
    search: BeamSearch,
    stops: tuple[int, ...] = (),
    pad: int = 0,
) -> Beams:
    """The best texts of each row; those that met no stop within the steps count as they are.

    Args:
      model: logits with a cache.
      take: cache and row numbers [N] to the cache of those rows.
      cache: empty, of B rows, with room for prompt and new tokens.
      prompts: int32 [B, T], left-padded.
      mask: bool [B, T], True for real tokens.
      search: its options.
      stops: tokens that end a text.
      pad: what stands behind the end of a text.
    """
    b, width, steps = len(prompts), search.width, search.steps
    logits, cache = model(prompts, mask, cache, 1)
    vocabulary = logits.shape[-1]
    rows = jnp.arange(b)[:, None]  # [B, 1]
    is_stop = jnp.zeros(vocabulary, bool).at[jnp.asarray(stops, jnp.int32)].set(True)

    def best(found: Beams, tokens: jax.Array, lengths: jax.Array, scores: jax.Array) -> Beams:
        """The best W of those found and new ones [B, M, N], [B, M], [B, M]."""
        joined = [
            jnp.concatenate(pair, 1) for pair in zip(found, (tokens, lengths, scores), strict=True)
        ]
        top, which = jax.lax.top_k(joined[2], width)
        return Beams(
            joined[0][rows, which], jnp.where(jnp.isfinite(top), joined[1][rows, which], 0), top
        )

    def chosen(state: _Search) -> tuple[_Search, jax.Array, jax.Array]:
        """One more token for each beam: the state, and of the new live beams which they
        continue and with what.
        """
        after = state.log_probs[..., None] + jax.nn.log_softmax(state.logits)  # [B, W, V]
        flat = after.reshape(b, -1)
        stopped = jnp.tile(is_stop, width)[None]
        live, which = jax.lax.top_k(jnp.where(stopped, -jnp.inf, flat), width)
        found = state.found
        if stops:
            ended, ends = jax.lax.top_k(
                jnp.where(stopped, flat, -jnp.inf), min(width, flat.shape[1])
            )
            tokens = extended(state, ends)
            length = jnp.broadcast_to(state.step + 1, ends.shape)
            found = best(found, tokens, length, search.score(ended, state.step + 1))
        parents, token = which // vocabulary, which % vocabulary
        new = state._replace(
            live=extended(state, which), log_probs=live, found=found, step=state.step + 1
        )
        return new, parents, token

    def extended(state: _Search, which: jax.Array) -> jax.Array:
        tokens = state.live[rows, which // vocabulary]  # [B, M, N]
        return jax.lax.dynamic_update_slice_in_dim(
            tokens, (which % vocabulary)[..., None], state.step, 2
        )

    def going(state: _Search) -> jax.Array:
        # No probability rises and no length is past the last, so that this is the most a live beam
        # can come to.
        hope = search.score(state.log_probs[:, 0], steps)
        return (state.step < steps - 1) & (hope > state.found.scores[:, -1]).any()

    def step(state: _Search) -> _Search:
        state, parents, token = chosen(state)
        cache = take(state.cache, (rows * width + parents).reshape(-1))
        logits, cache = model(token.reshape(-1, 1), jnp.ones((b * width, 1), bool), cache, 1)
        return state._replace(logits=logits.reshape(b, width, -1), cache=cache)

    pads = jnp.full((b, width, steps), pad, jnp.int32)
    none = Beams(pads, jnp.zeros((b, width), jnp.int32), jnp.full((b, width), -jnp.inf))
    only = jnp.full((b, width), -jnp.inf).at[:, 0].set(0.0)  # the first step has one beginning
    cache = take(cache, jnp.repeat(jnp.arange(b), width))
    logits = jnp.repeat(logits, width, 1)
    state = _Search(pads, only, logits, none, jnp.zeros((), jnp.int32), cache)
    state = jax.lax.while_loop(going, step, state)
    state, _, _ = chosen(state)
    lengths = jnp.broadcast_to(state.step, (b, width))
    # A search that ended early has found better texts than these beginnings.
    unfinished = jnp.where(state.step == steps, search.score(state.log_probs, steps), -jnp.inf)
    return best(state.found, state.live, lengths, unfinished)
