"""Speculative decoding: a small model guesses ahead, and a large one checks all guesses at once
(arXiv 2211.17192).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.samplers.tokens.decoding import Prompts, Stops, TokenModel, check_stops


class Speculated(NamedTuple):
    """The tokens drawn by ``speculate``.

    Attributes:
      tokens: int32 [B, N], ``pad`` after the end.
      lengths: int32 [B], with the stop.
      rounds: int32 [B], calls of the large model after the prompt; without guesses it would take
          length - 1.
    """

    tokens: jax.Array
    lengths: jax.Array
    rounds: jax.Array


class Checked(NamedTuple):
    """The result of one round.

    Attributes:
      tokens: int32 [A + 1], new tokens; those after ``accepted`` + 1 are not drawn.
      accepted: int32 [], number of accepted guesses.
      logits: [A + 1, V], of the target for each new token, before filters.
      target_cache: the target's cache, without the last new token.
      draft_cache: the same of the draft.
    """

    tokens: jax.Array
    accepted: jax.Array
    logits: jax.Array
    target_cache: Any
    draft_cache: Any


class Filters(Protocol):
    """What a ``TokenSampler`` is here: options that filter logits."""

    @property
    def steps(self) -> int: ...

    @property
    def repetition_penalty(self) -> float: ...

    def filter_logits(self, logits: jax.Array) -> jax.Array: ...


class _Round(NamedTuple):
    tokens: jax.Array  # int32 [N + ahead + 1]
    length: jax.Array
    done: jax.Array
    rounds: jax.Array
    target_cache: Any
    draft_cache: Any


def accept_guesses(
    key: jax.Array, guesses: jax.Array, draft: jax.Array, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Count the accepted guesses [] and draw the token after them []; all tokens are then
    distributed as if the target had drawn them.

    A guess x is accepted with probability min(1, p(x) / q(x)). The first rejected guess is replaced
    by a token drawn from the positive part of p - q; if none is rejected, one more is drawn from p.

    Args:
      key: random key.
      guesses: int32 [A], drawn from ``draft``.
      draft: probabilities q [A, V] of the draft.
      target: probabilities p [A + 1, V] of the target.
    """
    ahead = len(guesses)
    coins, last = jax.random.split(key)
    places = jnp.arange(ahead)
    q, p = draft[places, guesses], target[places, guesses]
    accepted = jax.random.uniform(coins, (ahead,)) * q < p
    count = jnp.cumprod(accepted.astype(jnp.int32)).sum()
    rest = jnp.maximum(target - jnp.pad(draft, ((0, 1), (0, 0))), 0)[count]
    # If both are equal up to rounding, nothing may be left; then draw from the target itself.
    rest = jnp.where(rest.sum() > 0, rest, target[count])
    return count, jax.random.categorical(last, jnp.log(rest)).astype(jnp.int32)


@dataclass(frozen=True)
class Speculator:
    """A large model and a small one that guesses for it.

    Attributes:
      target: large model, whose distribution is sampled.
      draft: faster model with the same vocabulary.
      rewind: function of a cache and a count [1] that drops that many of the last tokens.
      sampler: options, for both models; without a repetition penalty.
      ahead: guesses per round.
      stops: token sequences that end a row.
      pad: token after the end of a row.

    Raises:
      UserError: there is a repetition penalty, which would differ between guesses; ``ahead`` is
          below 1.
    """

    target: TokenModel
    draft: TokenModel
    rewind: Callable[[Any, jax.Array], Any]
    sampler: Filters
    ahead: int = 4
    stops: Stops = ()
    pad: int = 0

    def __post_init__(self) -> None:
        check_stops(self.stops)
        check_filters(self.sampler)
        if self.ahead < 1:
            raise UserError(
                f"ahead must be >= 1 in speculative decoding, got {self.ahead}", "ahead"
            )

    def draw_row(
        self, prompt: Prompts, key: jax.Array, target_cache: Any, draft_cache: Any
    ) -> Speculated:
        """Draw the continuation [N] of the prompt of one row."""
        size, steps = self.sampler.steps + self.ahead + 1, self.sampler.steps
        first, _, target_cache, draft_cache = self.begin(prompt, key, target_cache, draft_cache)
        tokens = jnp.full(size, self.pad, jnp.int32).at[0].set(first)
        one, none = jnp.ones((), jnp.int32), jnp.zeros((), jnp.int32)
        done = find_ends(self.stops, steps, tokens, one).any()
        state = _Round(tokens, one, done, none, target_cache, draft_cache)
        going = lambda s: (s.length < steps) & ~s.done  # noqa: E731
        state = jax.lax.while_loop(going, functools.partial(self._play_round, key), state)
        return cut_row(self.stops, steps, self.pad, state.tokens, state.length, state.rounds)

    def begin(
        self, prompt: Prompts, key: jax.Array, target_cache: Any, draft_cache: Any
    ) -> tuple[jax.Array, jax.Array, Any, Any]:
        """Read the prompt of one row; return the first token [], its logits [V] and the caches."""
        tokens, real = map(jnp.asarray, prompt)
        logits, target_cache = self.target(tokens, real, target_cache, 1)
        _, draft_cache = self.draft(tokens, real, draft_cache, 1)
        first = jax.random.categorical(
            jax.random.fold_in(key, 0), self.sampler.filter_logits(logits[0, 0])
        ).astype(jnp.int32)
        return first, logits[0, 0], target_cache, draft_cache

    def play(
        self, key: jax.Array, number: jax.Array, last: jax.Array, caches: tuple[Any, Any]
    ) -> Checked:
        """Play one round: the draft guesses ahead, the target checks.

        Args:
          key: random key of the row.
          number: number of earlier rounds.
          last: the row's last token.
          caches: caches of target and draft, without the last token.
        """
        ahead, (target_cache, draft_cache) = self.ahead, caches
        drawing, judging = jax.random.split(jax.random.fold_in(key, number + 1))
        # One more guess than is used, so that the draft has read every token that may be accepted.
        keys = jax.random.split(drawing, ahead + 1)
        (_, draft_cache), (guesses, q) = jax.lax.scan(self._guess, (last, draft_cache), keys)
        guesses, q = guesses[:ahead], q[:ahead]
        given = jnp.concatenate([last[None], guesses])[None]
        logits, target_cache = self.target(
            given, jnp.ones(given.shape, bool), target_cache, ahead + 1
        )
        p = jax.nn.softmax(self.sampler.filter_logits(logits[0]))
        count, token = accept_guesses(judging, guesses, q, p)
        new = jnp.where(jnp.arange(ahead + 1) < count, jnp.append(guesses, 0), token)
        back = (ahead - count)[None]
        target_cache, draft_cache = (self.rewind(c, back) for c in (target_cache, draft_cache))
        return Checked(new, count, logits[0], target_cache, draft_cache)

    def _play_round(self, key: jax.Array, state: _Round) -> _Round:
        last = state.tokens[state.length - 1]
        found = self.play(key, state.rounds, last, (state.target_cache, state.draft_cache))
        tokens = jax.lax.dynamic_update_slice_in_dim(state.tokens, found.tokens, state.length, 0)
        length = state.length + found.accepted + 1
        return _Round(
            tokens,
            length,
            find_ends(self.stops, self.sampler.steps, tokens, length).any(),
            state.rounds + 1,
            found.target_cache,
            found.draft_cache,
        )

    def _guess(self, carry: Any, key: jax.Array) -> Any:
        token, cache = carry
        logits, cache = self.draft(token[None, None], jnp.ones((1, 1), bool), cache, 1)
        filtered = self.sampler.filter_logits(logits[0])[0]
        token = jax.random.categorical(key, filtered).astype(jnp.int32)
        return (token, cache), (token, jax.nn.softmax(filtered))


def check_filters(sampler: Filters) -> None:
    """Refuse a repetition penalty, which would differ between guesses."""
    if sampler.repetition_penalty != 1:
        raise UserError(
            "repetition_penalty must be 1 in speculative decoding, got "
            f"{sampler.repetition_penalty}",
            "repetition_penalty",
        )


def find_ends(stops: Stops, steps: int, tokens: jax.Array, length: jax.Array) -> jax.Array:
    """Return bool [size]: whether a stop of at most ``steps`` tokens ends at this position of a row
    [size], of which ``length`` tokens are drawn.
    """
    met, places = jnp.zeros(len(tokens), bool), jnp.arange(len(tokens))
    for stop in stops:
        if len(stop) > steps:
            continue
        parts = [jnp.roll(tokens == token, len(stop) - 1 - i) for i, token in enumerate(stop)]
        met = met | (jnp.stack(parts).all(0) & (places >= len(stop) - 1))
    return met & (places < length)


def cut_row(
    stops: Stops,
    steps: int,
    pad: int,
    tokens: jax.Array,
    length: jax.Array,
    rounds: jax.Array,
) -> Speculated:
    """Return the first ``steps`` of the drawn tokens [size], up to the first stop."""
    met = find_ends(stops, steps, tokens, length)
    end = jnp.where(met.any(), jnp.argmax(met) + 1, length)
    length = jnp.minimum(end, steps).astype(jnp.int32)
    kept = jnp.where(jnp.arange(len(tokens)) < length, tokens, pad)[:steps]
    return Speculated(kept, length, rounds)


def speculate(
    speculator: Speculator, target_cache: Any, draft_cache: Any, prompts: Prompts, key: jax.Array
) -> Speculated:
    """Draw one row after another, with the same distribution as ``decoding.generate`` of the target
    alone.

    Args:
      speculator: the two models and their options.
      target_cache: empty cache of the target for one row, with room for prompt and new tokens.
      draft_cache: the same for the draft.
      prompts: prompts of the rows.
      key: random key.
    """

    def row(inputs: Any) -> Speculated:
        tokens, real, key = inputs
        prompt = Prompts(tokens[None], real[None])
        return speculator.draw_row(prompt, key, target_cache, draft_cache)

    return jax.lax.map(row, (*prompts, jax.random.split(key, len(prompts.tokens))))
