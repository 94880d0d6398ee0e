"""Speculative decoding: a small model guesses ahead, a large one judges all guesses at once
(arXiv 2211.17192).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.samplers.tokens.decoding import Stops, TokenModel, TokenSampler, check_stops


class Speculated(NamedTuple):
    """What ``speculate`` has drawn.

    Attributes:
      tokens: int32 [B, N], ``pad`` after the end.
      lengths: int32 [B], the stop included.
      rounds: int32 [B], how often the large model was asked after the prompt; without guesses it
        were length - 1.
    """

    tokens: jax.Array
    lengths: jax.Array
    rounds: jax.Array


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
    """How many guesses stand [], and the token after them [], so that all are distributed as the
    target's draws.

    A guess x stands with probability min(1, p(x) / q(x)); for the first that falls a token is drawn
    from the positive part of p - q, and if none falls one more from p.

    Args:
      key: of the draws.
      guesses: int32 [A], drawn from ``draft``.
      draft: q [A, V], probabilities.
      target: p [A + 1, V].
    """
    ahead = len(guesses)
    coins, last = jax.random.split(key)
    places = jnp.arange(ahead)
    q, p = draft[places, guesses], target[places, guesses]
    stands = jax.random.uniform(coins, (ahead,)) * q < p
    count = jnp.cumprod(stands.astype(jnp.int32)).sum()
    rest = jnp.maximum(target - jnp.pad(draft, ((0, 1), (0, 0))), 0)[count]
    # Rounding alone can leave nothing where both are equal; the target itself is then as good.
    rest = jnp.where(rest.sum() > 0, rest, target[count])
    return count, jax.random.categorical(last, jnp.log(rest)).astype(jnp.int32)


def speculate(
    target: TokenModel,
    draft: TokenModel,
    rewind: Callable[[Any, jax.Array], Any],
    target_cache: Any,
    draft_cache: Any,
    prompts: jax.Array,
    mask: jax.Array,
    sampler: TokenSampler,
    key: jax.Array,
    ahead: int = 4,
    stops: Stops = (),
    pad: int = 0,
) -> Speculated:
    """Draw as ``decoding.generate`` does from the target alone, in distribution, one row after
    another.

    Args:
      target: the model whose draws are wanted.
      draft: a faster one over the same tokens.
      rewind: cache and tokens [1] to the cache without so many of the last ones.
      target_cache: empty, of one row, with room for prompt and new tokens.
      draft_cache: the same of the draft.
      prompts: int32 [B, T], left-padded.
      mask: bool [B, T], True for real tokens.
      sampler: its options act on both models; no repetition penalty.
      key: of the draws.
      ahead: guesses of a round.
      stops: sequences of tokens that end a row.
      pad: what stands behind the end of a row.

    Raises:
      UserError: a repetition penalty, which would differ from guess to guess; less than one guess.
    """
    check_stops(stops)
    if sampler.repetition_penalty != 1:
        raise UserError("speculative decoding knows no repetition_penalty")
    if ahead < 1:
        raise UserError(f"speculative decoding guesses at least 1 token ahead, not {ahead}")
    if any(len(stop) > sampler.steps for stop in stops):
        stops = tuple(stop for stop in stops if len(stop) <= sampler.steps)

    def row(inputs: Any) -> Speculated:
        prompt, real, key = inputs
        return _row(
            target,
            draft,
            rewind,
            target_cache,
            draft_cache,
            prompt,
            real,
            sampler,
            key,
            ahead,
            stops,
            pad,
        )

    return jax.lax.map(row, (prompts, mask, jax.random.split(key, len(prompts))))


def _row(
    target: TokenModel,
    draft: TokenModel,
    rewind: Callable[[Any, jax.Array], Any],
    target_cache: Any,
    draft_cache: Any,
    prompt: jax.Array,
    real: jax.Array,
    sampler: TokenSampler,
    key: jax.Array,
    ahead: int,
    stops: Stops,
    pad: int,
) -> Speculated:
    size = sampler.steps + ahead + 1
    places = jnp.arange(size)

    def ends(tokens: jax.Array, length: jax.Array) -> jax.Array:
        """bool [size]: whether a stop ends at this place."""
        met = jnp.zeros(size, bool)
        for stop in stops:
            parts = [jnp.roll(tokens == token, len(stop) - 1 - i) for i, token in enumerate(stop)]
            met = met | (jnp.stack(parts).all(0) & (places >= len(stop) - 1))
        return met & (places < length)

    def fed(model: TokenModel, tokens: jax.Array, cache: Any, last: int) -> tuple[jax.Array, Any]:
        """Logits [last, V] of the distribution that is drawn from."""
        logits, cache = model(tokens[None], jnp.ones((1, len(tokens)), bool), cache, last)
        return sampler.filter_logits(logits[0]), cache

    def guess(carry: Any, key: jax.Array) -> Any:
        token, cache = carry
        logits, cache = fed(draft, token[None], cache, 1)
        token = jax.random.categorical(key, logits[0]).astype(jnp.int32)
        return (token, cache), (token, jax.nn.softmax(logits[0]))

    def judged(state: _Round) -> _Round:
        drawing, judging = jax.random.split(jax.random.fold_in(key, state.rounds + 1))
        last = state.tokens[state.length - 1]
        # One guess more than is used: so that the draft has read all that may stand.
        keys = jax.random.split(drawing, ahead + 1)
        (_, draft_cache), (guesses, q) = jax.lax.scan(guess, (last, state.draft_cache), keys)
        guesses, q = guesses[:ahead], q[:ahead]
        logits, target_cache = fed(
            target, jnp.concatenate([last[None], guesses]), state.target_cache, ahead + 1
        )
        count, token = accept_guesses(judging, guesses, q, jax.nn.softmax(logits))
        new = jnp.where(jnp.arange(ahead + 1) < count, jnp.append(guesses, 0), token)
        tokens = jax.lax.dynamic_update_slice_in_dim(state.tokens, new, state.length, 0)
        length = state.length + count + 1
        back = (ahead - count)[None]
        return _Round(
            tokens,
            length,
            ends(tokens, length).any(),
            state.rounds + 1,
            rewind(target_cache, back),
            rewind(draft_cache, back),
        )

    logits, target_cache = target(prompt[None], real[None], target_cache, 1)
    _, draft_cache = draft(prompt[None], real[None], draft_cache, 1)
    first = jax.random.categorical(
        jax.random.fold_in(key, 0), sampler.filter_logits(logits[0, 0])
    ).astype(jnp.int32)
    tokens = jnp.full(size, pad, jnp.int32).at[0].set(first)
    one, none = jnp.ones((), jnp.int32), jnp.zeros((), jnp.int32)
    state = _Round(tokens, one, ends(tokens, one).any(), none, target_cache, draft_cache)
    going = lambda s: (s.length < sampler.steps) & ~s.done  # noqa: E731
    state = jax.lax.while_loop(going, judged, state)
    met = ends(state.tokens, state.length)
    end = jnp.where(met.any(), jnp.argmax(met) + 1, state.length)
    length = jnp.minimum(end, sampler.steps).astype(jnp.int32)
    return Speculated(
        jnp.where(places < length, state.tokens, pad)[: sampler.steps], length, state.rounds
    )
