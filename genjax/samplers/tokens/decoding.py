"""Autoregressive decoding with a cache, in one compiled loop or a step at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.errors import UserError

Stops = tuple[tuple[int, ...], ...]

MOST_TOKENS = 1_000_000  # in a text
OPEN = -1  # a place of ``TokenSampler.given`` where a token is drawn


class Prompts(NamedTuple):
    """The prompts of a batch, left-padded to one length; see ``pad_prompts``.

    Attributes:
      tokens: int32 [B, T], left-padded.
      mask: bool [B, T], True for real tokens.
    """

    tokens: jax.Array | np.ndarray
    mask: jax.Array | np.ndarray


class TokenModel(Protocol):
    """A network as a decoder calls it."""

    def __call__(
        self, tokens: jax.Array, mask: jax.Array, cache: Any, last: int
    ) -> tuple[jax.Array, Any]:
        """Return logits [B, last, V] after each of the last tokens, and the updated cache.

        Args:
          tokens: int32 [B, T], next tokens of each row.
          mask: bool [B, T], False for padding, which must not enter the cache.
          cache: cache of the earlier tokens.
          last: number of positions whose logits are needed, counted from the end.
        """
        ...


class Sliding(NamedTuple):
    """How a row continues once its cache is full: its last tokens are re-encoded into an empty
    cache.

    So a token depends on the ``keep`` to ``room`` tokens before it in its own row.

    Attributes:
      room: tokens per row that fit in the cache.
      keep: tokens that are re-encoded, including the one that did not fit; 1 to ``room``.
      rewind: function of a cache and counts [B] that drops that many of the last tokens of each
          row.
    """

    room: int
    keep: int
    rewind: Callable[[Any, jax.Array], Any]


@checks.frozen
class TokenSampler:
    """How a token is drawn from logits; filters are applied in the order of the fields.

    Attributes:
      steps: maximum number of new tokens.
      repetition_penalty: factor for tokens already in the prompt or the text: positive logits are
        divided by it, negative ones multiplied (Keskar et al., arXiv 1909.05858); 1 for none.
      temperature: divisor of the logits; 0 takes the most likely token.
      top_k: number of most likely tokens to draw from (Fan et al., arXiv 1805.04833); None for all.
      top_p: probability of the smallest set of most likely tokens to draw from (Holtzman et al.,
        arXiv 1904.09751); None for all.
      min_p: smallest probability of a token, relative to the most likely one (Nguyen et al., arXiv
        2407.01082); None for no limit.
      given: tokens that are set instead of drawn, from the first new one on, for filling gaps; -1
        where one is drawn. Tokens after its end are drawn.
    """

    steps: int = 256
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    given: tuple[int, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        checks.between(self, 1, MOST_TOKENS, "steps")
        checks.above(self, 0, "repetition_penalty")
        checks.at_least(self, 0, "temperature")
        checks.at_least(self, 1, "top_k")
        checks.numbers(self, ("top_p", "min_p"), "above 0 and at most 1", lambda x: 0 < x <= 1)

    def filter_logits(self, logits: jax.Array, seen: jax.Array | None = None) -> jax.Array:
        """Return the filtered logits [..., V], -inf for removed tokens; ``seen`` is bool [..., V].

        Ties with the last token kept are kept, too.
        """
        if seen is not None:
            penalised = jnp.where(
                logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty
            )
            logits = jnp.where(seen, penalised, logits)
        if self.temperature == 0:
            best = jnp.argmax(logits, -1, keepdims=True)
            places = jnp.arange(logits.shape[-1]).reshape((1,) * (logits.ndim - 1) + (-1,))
            return jnp.where(places == best, 0.0, -jnp.inf)
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = jax.lax.top_k(logits, self.top_k)[0][..., -1:]
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        if self.top_p is not None and self.top_p < 1:
            falling = -jnp.sort(-jax.nn.softmax(logits), axis=-1)
            before = jnp.cumsum(falling, -1) - falling
            least = jnp.where(before < self.top_p, falling, jnp.inf).min(-1, keepdims=True)
            logits = jnp.where(jax.nn.softmax(logits) >= least, logits, -jnp.inf)
        if self.min_p is not None:
            least = logits.max(-1, keepdims=True) + np.log(self.min_p)
            logits = jnp.where(logits >= least, logits, -jnp.inf)
        return logits


class Drawing(NamedTuple):
    """The state of decoding: the tokens drawn so far in each row.

    Attributes:
      tokens: int32 [B, N], ``pad`` where nothing is drawn yet.
      log_probs: float32 [B, N] of each token under the model, before filters, in nats; 0 where
          nothing is drawn.
      lengths: int32 [B], number of tokens drawn, with the stop.
      done: bool [B], whether a stop was drawn.
      step: int32 [], largest length.
      seen: bool [B, V], tokens that the repetition penalty applies to; None without one.
      cache: the model's cache, without the last token.
      held: int32 [B], number of tokens of each row in the cache.
      prompts: int32 [B, T].
      key: random key.
    """

    tokens: jax.Array
    log_probs: jax.Array
    lengths: jax.Array
    done: jax.Array
    step: jax.Array
    seen: jax.Array | None
    cache: Any
    held: jax.Array
    prompts: jax.Array
    key: jax.Array


def pad_prompts(prompts: Sequence[Sequence[int]], pad: int = 0) -> Prompts:
    """Left-pad prompts to the same length, as NumPy arrays.

    Raises:
      UserError: there is no prompt, or an empty one: a model needs at least one token.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise UserError("a prompt must have at least one token, such as the one that starts a text")
    longest = max(len(prompt) for prompt in prompts)
    tokens, mask = (
        np.full((len(prompts), longest), pad, np.int32),
        np.zeros((len(prompts), longest), bool),
    )
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :], mask[row, longest - len(prompt) :] = prompt, True
    return Prompts(tokens, mask)


def start(
    model: TokenModel,
    cache: Any,
    prompts: Prompts,
    sampler: TokenSampler,
    key: jax.Array,
    stops: Stops = (),
    pad: int = 0,
) -> Drawing:
    """Encode the prompts and draw the first token of each row; the arguments are those of
    ``generate``.
    """
    check_stops(stops)
    given, mask = map(jnp.asarray, prompts)
    b = len(given)
    logits, cache = model(given, mask, cache, 1)
    seen = None
    if sampler.repetition_penalty != 1:
        tokens = jnp.where(mask, given, logits.shape[-1])
        seen = (
            jnp.zeros((b, logits.shape[-1]), bool)
            .at[jnp.arange(b)[:, None], tokens]
            .set(True, mode="drop")
        )
    empty = Drawing(
        jnp.full((b, sampler.steps), pad, jnp.int32),
        jnp.zeros((b, sampler.steps)),
        jnp.zeros(b, jnp.int32),
        jnp.zeros(b, bool),
        jnp.zeros((), jnp.int32),
        seen,
        cache,
        mask.sum(1, dtype=jnp.int32),
        given,
        key,
    )
    return _draw_token(empty, logits[:, 0], sampler, stops)


def advance(
    model: TokenModel,
    drawing: Drawing,
    sampler: TokenSampler,
    stops: Stops = (),
    sliding: Sliding | None = None,
) -> Drawing:
    """Draw one more token in each row that is not done; compile it on its own to stream."""
    last = jax.lax.dynamic_slice_in_dim(drawing.tokens, drawing.step - 1, 1, 1)
    going = ~drawing.done
    if sliding is None:
        logits, cache = model(last, going[:, None], drawing.cache, 1)
        drawing = drawing._replace(cache=cache, held=drawing.held + going)
        return _draw_token(drawing, logits[:, 0], sampler, stops)
    _, keep, rewind = sliding
    full = _is_full(drawing, sliding)

    def read(cache: Any) -> tuple[jax.Array, Any]:
        return model(last, going[:, None], cache, 1)

    def reencode(cache: Any) -> tuple[jax.Array, Any]:
        """Read the last ``keep`` tokens of full rows, and the last one of others."""
        text = jnp.concatenate([drawing.prompts, drawing.tokens], 1)
        tokens = jax.lax.dynamic_slice_in_dim(
            text, drawing.prompts.shape[1] + drawing.step - keep, keep, 1
        )
        mask = going[:, None] & (full[:, None] | (jnp.arange(keep) == keep - 1)[None])
        return model(tokens, mask, rewind(cache, jnp.where(full, drawing.held, 0)), 1)

    logits, cache = jax.lax.cond(full.any(), reencode, read, drawing.cache)
    drawing = drawing._replace(cache=cache, held=jnp.where(full, keep, drawing.held + going))
    return _draw_token(drawing, logits[:, 0], sampler, stops)


def generate(
    model: TokenModel,
    cache: Any,
    prompts: Prompts,
    sampler: TokenSampler,
    key: jax.Array,
    stops: Stops = (),
    pad: int = 0,
    sliding: Sliding | None = None,
) -> Drawing:
    """Draw until every row has a stop or ``sampler.steps`` tokens.

    Args:
      model: model with a cache.
      cache: empty cache, with room for the prompt and, without ``sliding``, the new tokens.
      prompts: prompts of the rows.
      sampler: options.
      key: random key.
      stops: token sequences; a row ends once its new tokens end with one of them.
      pad: token after the end of a row.
      sliding: what to do when the cache is full; None if all tokens fit.
    """
    drawing = start(model, cache, prompts, sampler, key, stops, pad)
    going = lambda d: (d.step < sampler.steps) & ~d.done.all()  # noqa: E731
    plain = lambda d: advance(model, d, sampler, stops)  # noqa: E731
    if sliding is None:
        return jax.lax.while_loop(going, plain, drawing)

    def until_full(drawing: Drawing) -> Drawing:
        # The branch is outside the inner loop: XLA copies a cache that a branch may change.
        drawing = advance(model, drawing, sampler, stops, sliding)
        return jax.lax.while_loop(lambda d: going(d) & ~_is_full(d, sliding).any(), plain, drawing)

    return jax.lax.while_loop(going, until_full, drawing)


def _is_full(drawing: Drawing, sliding: Sliding) -> jax.Array:
    """Return bool [B]: unfinished rows whose cache has no room for another token."""
    return ~drawing.done & (drawing.held >= sliding.room)


def check_stops(stops: Stops) -> None:
    """Refuse empty stop sequences."""
    if not all(len(stop) for stop in stops):
        raise UserError("stops must have at least one token each, got an empty one", "stops")


def _draw_token(
    drawing: Drawing, logits: jax.Array, sampler: TokenSampler, stops: Stops
) -> Drawing:
    """Draw another token in each row from logits [B, V]."""
    filtered = sampler.filter_logits(logits, drawing.seen)
    if sampler.temperature == 0:
        token = jnp.argmax(filtered, -1).astype(jnp.int32)
    else:
        token = jax.random.categorical(
            jax.random.fold_in(drawing.key, drawing.step), filtered
        ).astype(jnp.int32)
    if sampler.given:
        places = np.full(sampler.steps, OPEN, np.int32)
        places[: len(sampler.given)] = sampler.given[: sampler.steps]
        given = jnp.asarray(places)[drawing.step]
        token = jnp.where(given == OPEN, token, given)
    rows, open_ = jnp.arange(len(token)), ~drawing.done
    log_prob = jnp.where(open_, jax.nn.log_softmax(logits)[rows, token], 0.0)
    column = jax.lax.dynamic_slice_in_dim(drawing.tokens, drawing.step, 1, 1)[:, 0]
    tokens = _put(drawing.tokens, jnp.where(open_, token, column), drawing.step)
    step = drawing.step + 1
    done = drawing.done
    for stop in stops:
        if len(stop) > sampler.steps:
            continue
        ending = jax.lax.dynamic_slice_in_dim(tokens, step - len(stop), len(stop), 1)
        met = (ending == jnp.asarray(stop, jnp.int32)[None]).all(-1)
        done = done | (met & open_ & (step >= len(stop)))
    seen = drawing.seen if drawing.seen is None else drawing.seen.at[rows, token].set(True)
    return drawing._replace(
        tokens=tokens,
        log_probs=_put(drawing.log_probs, log_prob, drawing.step),
        lengths=drawing.lengths + open_,
        done=done,
        step=step,
        seen=seen,
    )


def _put(array: jax.Array, column: jax.Array, at: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(array, column[:, None], at, 1)
