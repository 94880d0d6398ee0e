"""Beam search: the most likely continuations, found with a bounded list of candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.samplers.tokens.decoding import Prompts, TokenModel


@checks.frozen
class BeamSearch:
    """Beam search: keep the most likely unfinished texts and the best finished ones.

    Attributes:
      steps: maximum number of new tokens.
      width: unfinished texts kept per row.
      length_penalty: alpha in the score log p / ((5 + length) / 6)^alpha (Wu et al., arXiv
          1609.08144); above 0 it favours longer texts.
    """

    steps: int = 64
    width: int = 4
    length_penalty: float = 0.6

    def __post_init__(self) -> None:
        checks.between(self, 1, 1_000_000, "steps")
        checks.between(self, 1, 10_000, "width")
        checks.at_least(self, 0, "length_penalty")

    def score(self, log_prob: jax.Array, length: jax.Array | int) -> jax.Array:
        """Return the score that texts are ranked by, of ``log_prob``'s shape."""
        return log_prob / ((5 + jnp.asarray(length, jnp.float32)) / 6) ** self.length_penalty


class Beams(NamedTuple):
    """The finished texts of each row, best first.

    Attributes:
      tokens: int32 [B, W, N], ``pad`` after the end.
      lengths: int32 [B, W], with the stop token; 0 where fewer texts were found.
      scores: float32 [B, W]; -inf where fewer texts were found.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array


class _Search(NamedTuple):
    live: jax.Array  # int32 [B, W, N]
    log_probs: jax.Array  # float32 [B, W]
    logits: jax.Array  # float32 [B, W, V], of the next token
    found: Beams
    step: jax.Array
    cache: Any


def beam_search(
    model: TokenModel,
    take: Callable[[Any, jax.Array], Any],
    cache: Any,
    prompts: Prompts,
    search: BeamSearch,
    stops: tuple[int, ...] = (),
    pad: int = 0,
) -> Beams:
    """Return the best texts of each row; a text without a stop token counts once it has all its
    steps.

    Args:
      model: model with a cache.
      take: function of a cache and row numbers [N] that returns the cache of those rows.
      cache: empty cache of B rows, with room for prompt and new tokens.
      prompts: prompts of the rows.
      search: options.
      stops: tokens that end a text.
      pad: token after the end of a text.
    """
    b, width, steps = len(prompts.tokens), search.width, search.steps
    tokens, mask = map(jnp.asarray, prompts)
    logits, cache = model(tokens, mask, cache, 1)
    is_stop = jnp.zeros(logits.shape[-1], bool).at[jnp.asarray(stops, jnp.int32)].set(True)
    searcher = _Searcher(model, take, search, is_stop if stops else None)
    pads = jnp.full((b, width, steps), pad, jnp.int32)
    none = Beams(pads, jnp.zeros((b, width), jnp.int32), jnp.full((b, width), -jnp.inf))
    only = jnp.full((b, width), -jnp.inf).at[:, 0].set(0.0)  # all beams start as one
    cache = take(cache, jnp.repeat(jnp.arange(b), width))
    logits = jnp.repeat(logits, width, 1)
    state = _Search(pads, only, logits, none, jnp.zeros((), jnp.int32), cache)
    state = jax.lax.while_loop(searcher.can_improve, searcher.advance, state)
    state, _, _ = searcher.extend(state)
    lengths = jnp.broadcast_to(state.step, (b, width))
    # A search that ended early has found better texts than the live ones.
    unfinished = jnp.where(state.step == steps, search.score(state.log_probs, steps), -jnp.inf)
    return _keep_best(state.found, Beams(state.live, lengths, unfinished))


@dataclass(frozen=True)
class _Searcher:
    model: TokenModel
    take: Callable[[Any, jax.Array], Any]
    search: BeamSearch
    is_stop: jax.Array | None  # bool [V]; None if no token ends a text

    def can_improve(self, state: _Search) -> jax.Array:
        """Return whether a live beam may still beat the worst text found."""
        # Probabilities only fall and no text is longer than this, so it bounds the score of a live
        # beam.
        hope = self.search.score(state.log_probs[:, 0], self.search.steps)
        return (state.step < self.search.steps - 1) & (hope > state.found.scores[:, -1]).any()

    def advance(self, state: _Search) -> _Search:
        """Append a token to each live beam, and compute the logits after it."""
        b, width = state.log_probs.shape
        state, parents, token = self.extend(state)
        cache = self.take(state.cache, (jnp.arange(b)[:, None] * width + parents).reshape(-1))
        logits, cache = self.model(token.reshape(-1, 1), jnp.ones((b * width, 1), bool), cache, 1)
        return state._replace(logits=logits.reshape(b, width, -1), cache=cache)

    def extend(self, state: _Search) -> tuple[_Search, jax.Array, jax.Array]:
        """Append a token to each beam; also return the parent beam [B, W] and the token [B, W] of
        each new one.
        """
        after = state.log_probs[..., None] + jax.nn.log_softmax(state.logits)  # [B, W, V]
        vocabulary, width = after.shape[-1], self.search.width
        flat, found = after.reshape(len(after), -1), state.found
        going = flat
        if self.is_stop is not None:
            stopped = jnp.tile(self.is_stop, width)[None]
            going = jnp.where(stopped, -jnp.inf, flat)
            ended, ends = jax.lax.top_k(
                jnp.where(stopped, flat, -jnp.inf), min(width, flat.shape[1])
            )
            length = jnp.broadcast_to(state.step + 1, ends.shape)
            scores = self.search.score(ended, state.step + 1)
            found = _keep_best(found, Beams(_append(state, ends), length, scores))
        live, which = jax.lax.top_k(going, width)
        new = state._replace(
            live=_append(state, which), log_probs=live, found=found, step=state.step + 1
        )
        return new, which // vocabulary, which % vocabulary


def _append(state: _Search, which: jax.Array) -> jax.Array:
    """Append tokens to live texts: [B, M, N], for ``which`` [B, M] among W * V beams and tokens."""
    vocabulary = state.logits.shape[-1]
    tokens = state.live[jnp.arange(len(which))[:, None], which // vocabulary]
    return jax.lax.dynamic_update_slice_in_dim(
        tokens, (which % vocabulary)[..., None], state.step, 2
    )


def _keep_best(found: Beams, new: Beams) -> Beams:
    """Return the best W of the found texts and new ones [B, M, N], [B, M], [B, M]."""
    tokens, lengths, scores = (jnp.concatenate(pair, 1) for pair in zip(found, new, strict=True))
    top, which = jax.lax.top_k(scores, found.scores.shape[1])
    rows = jnp.arange(len(which))[:, None]
    return Beams(tokens[rows, which], jnp.where(jnp.isfinite(top), lengths[rows, which], 0), top)
