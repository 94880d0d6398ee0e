"""Self-speculative decoding: a model with heads for later tokens guesses for itself.

Blockwise parallel decoding (Stern et al., arXiv 1811.03115) with the heads of multi-token
prediction (Gloeckle et al., arXiv 2404.19737); guesses are accepted as in speculative decoding
(arXiv 2211.17192), so that texts keep the distribution of the first head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from genjax.samplers.tokens.decoding import Prompts, Stops, check_stops
from genjax.samplers.tokens.speculative import (
    Filters,
    Speculated,
    accept_guesses,
    check_filters,
    cut_row,
    find_ends,
)


class AheadModel(Protocol):
    """A network with heads for several next tokens as a decoder calls it."""

    def __call__(
        self, tokens: jax.Array, mask: jax.Array, cache: Any, last: int
    ) -> tuple[jax.Array, Any]:
        """Return logits [n, B, last, V] of the next token and the n - 1 after it, and the updated
        cache; the arguments are those of a ``TokenModel``.
        """
        ...


class _Round(NamedTuple):
    tokens: jax.Array  # int32 [N + n]
    length: jax.Array
    done: jax.Array
    rounds: jax.Array
    guesses: jax.Array  # int32 [n - 1], of the tokens after the last one
    odds: jax.Array  # [n - 1, V], probabilities that they were drawn with
    cache: Any


@dataclass(frozen=True)
class SelfSpeculator:
    """A model that guesses for itself; one call of it checks the guesses and makes the next.

    Attributes:
      model: model with heads.
      heads: number of heads, n > 1.
      rewind: function of a cache and a count [1] that drops that many of the last tokens.
      sampler: options, without a repetition penalty.
      stops: token sequences that end a row.
      pad: token after the end of a row.
    """

    model: AheadModel
    heads: int
    rewind: Callable[[Any, jax.Array], Any]
    sampler: Filters
    stops: Stops = ()
    pad: int = 0

    def __post_init__(self) -> None:
        check_stops(self.stops)
        check_filters(self.sampler)

    def draw(self, cache: Any, prompts: Prompts, key: jax.Array) -> Speculated:
        """Draw one row after another.

        Args:
          cache: empty cache for one row, with room for prompt, new tokens and n - 1 guesses.
          prompts: prompts of the rows.
          key: random key.
        """

        def row(inputs: Any) -> Speculated:
            tokens, real, key = inputs
            return self.draw_row(Prompts(tokens[None], real[None]), key, cache)

        return jax.lax.map(row, (*prompts, jax.random.split(key, len(prompts.tokens))))

    def draw_row(self, prompt: Prompts, key: jax.Array, cache: Any) -> Speculated:
        """Draw the continuation [N] of the prompt of one row."""
        steps = self.sampler.steps
        tokens, real = map(jnp.asarray, prompt)
        logits, cache = self.model(tokens, real, cache, 1)
        drawing, guessing = jax.random.split(jax.random.fold_in(key, 0))
        filtered = self.sampler.filter_logits(logits[:, 0, 0])  # [n, V]
        first = jax.random.categorical(drawing, filtered[0]).astype(jnp.int32)
        row = jnp.full(steps + self.heads, self.pad, jnp.int32).at[0].set(first)
        one, none = jnp.ones((), jnp.int32), jnp.zeros((), jnp.int32)
        done = find_ends(self.stops, steps, row, one).any()
        state = _Round(row, one, done, none, *_guess(guessing, filtered[1:]), cache)
        going = lambda s: (s.length < steps) & ~s.done  # noqa: E731
        state = jax.lax.while_loop(going, functools.partial(self._play, key), state)
        return cut_row(self.stops, steps, self.pad, state.tokens, state.length, state.rounds)

    def _play(self, key: jax.Array, state: _Round) -> _Round:
        ahead = self.heads - 1
        judging, guessing = jax.random.split(jax.random.fold_in(key, state.rounds + 1))
        given = jnp.append(state.tokens[state.length - 1], state.guesses)[None]  # [1, n]
        logits, cache = self.model(given, jnp.ones(given.shape, bool), state.cache, self.heads)
        filtered = self.sampler.filter_logits(logits[:, 0])  # [n, n, V]: by head and position
        count, token = accept_guesses(
            judging, state.guesses, state.odds, jax.nn.softmax(filtered[0])
        )
        new = jnp.where(jnp.arange(self.heads) < count, jnp.append(state.guesses, 0), token)
        tokens = jax.lax.dynamic_update_slice_in_dim(state.tokens, new, state.length, 0)
        length = state.length + count + 1
        return _Round(
            tokens,
            length,
            find_ends(self.stops, self.sampler.steps, tokens, length).any(),
            state.rounds + 1,
            *_guess(guessing, filtered[1:, count]),
            self.rewind(cache, (ahead - count)[None]),
        )


def _guess(key: jax.Array, filtered: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw a guess by each head [n - 1] from filtered logits [n - 1, V]; return them and the
    probabilities.
    """
    return jax.random.categorical(key, filtered).astype(jnp.int32), jax.nn.softmax(filtered)
