"""The engine's programs draw rows of text side by side, each row with its own options.

A row has a slot. All rows with the same number of slots share one program, which draws up to
``DRAWN`` tokens of each row at once. Another program reads a prompt, and its row is put into a
free slot. A row's text therefore depends only on its own prompt, options and seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from genjax.evaluation.judge import SAMPLES
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.families.autoregressive.generation import TokenReader
from genjax.parallel import Layout

DRAWN = 64  # maximum number of tokens of a row in one dispatch
TOP = 20  # maximum number of alternatives reported with a token
BIASED = 300  # maximum number of tokens whose logits a request changes


class RowOptions(NamedTuple):
    """Options of each row's draw; arrays [B], see ``TokenSampler``.

    Attributes:
      key: uint32 [B, 2], key data from ``draw_keys``.
      temperature: float32 temperature; 0 for the likeliest token.
      top_k: int32 number of likeliest tokens; the vocabulary size keeps all.
      top_p: float32 probability mass of the likeliest tokens; 1 keeps all.
      log_min_p: float32 log of the relative minimum probability; -inf keeps all.
      penalty: float32 repetition penalty; 1 for none.
      frequency: float32 frequency penalty; 0 for none.
      presence: float32 presence penalty; 0 for none.
      biased: int32 [B, BIASED], tokens with a bias; V fills the rest.
      bias: float32 [B, BIASED], what is added to their logits.
      tops: bool, whether alternatives are reported.
      left: int32 number of tokens that may still be drawn.
    """

    key: Any
    temperature: Any
    top_k: Any
    top_p: Any
    log_min_p: Any
    penalty: Any
    frequency: Any
    presence: Any
    biased: Any
    bias: Any
    tops: Any
    left: Any


class Token(NamedTuple):
    """Drawn tokens int32 [B], their log-probabilities [B] under the model, and the likeliest
    tokens [B, TOP] with their log-probabilities.
    """

    token: jax.Array
    log_prob: jax.Array
    top: jax.Array
    top_log_probs: jax.Array


class Slots(NamedTuple):
    """Rows that are being drawn.

    Attributes:
      cache: cache of the model, without the last token of each row.
      last: int32 [B], last token of each row.
      drawn: int32 [B], number of tokens drawn so far.
      held: int32 [B], number of tokens in the cache.
      open: bool [B], whether the row continues; False for free slots.
      seen: bool [B, V], tokens to which the repetition penalty applies.
      counts: int32 [B, V], how often each token was drawn.
      options: options of the rows.
    """

    cache: Any
    last: jax.Array
    drawn: jax.Array
    held: jax.Array
    open: jax.Array
    seen: jax.Array
    counts: jax.Array
    options: RowOptions


def draw_keys(seed: jax.Array) -> jax.Array:
    """Return the key data [B, ...] with which ``genjax sample --num 1`` draws, for seeds uint32
    [B].
    """

    def one(seed: jax.Array) -> jax.Array:
        # The first chunk of samples: see ``Run.sample`` and ``map_chunks``.
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), SAMPLES), 0)
        return jax.random.key_data(key)

    return jax.vmap(one)(seed)


def punish_rows(
    logits: jax.Array, seen: jax.Array, counts: jax.Array, options: RowOptions
) -> jax.Array:
    """Apply each row's penalties and biases to logits [B, V]: the repetition penalty like
    ``TokenSampler``, the others as OpenAI defines them, on the tokens drawn so far.
    """
    penalty = options.penalty[:, None]
    punished = jnp.where(logits > 0, logits / penalty, logits * penalty)
    logits = jnp.where(seen & (penalty != 1), punished, logits)

    def shift(logits: jax.Array) -> jax.Array:
        rows = jnp.arange(len(logits))[:, None]
        changed = logits.at[rows, options.biased].add(options.bias, mode="drop")
        changed -= counts * options.frequency[:, None]
        return changed - (counts > 0) * options.presence[:, None]

    shifted = (options.frequency != 0) | (options.presence != 0) | (options.bias != 0).any(-1)
    return jax.lax.cond(shifted.any(), shift, lambda logits: logits, logits)


def filter_rows(
    logits: jax.Array, seen: jax.Array, counts: jax.Array, options: RowOptions
) -> jax.Array:
    """Filter logits [B, V] like ``TokenSampler.filter_logits``, with each row's own options; at
    temperature 0 only penalties and biases apply.
    """
    logits = punish_rows(logits, seen, counts, options)
    greedy = options.temperature[:, None] == 0
    logits = jnp.where(greedy, logits, logits / jnp.where(greedy, 1, options.temperature[:, None]))

    def keep_k(logits: jax.Array) -> jax.Array:
        falling = -jnp.sort(-logits, axis=-1)
        least = jnp.take_along_axis(falling, options.top_k[:, None] - 1, -1)
        return jnp.where(logits >= least, logits, -jnp.inf)

    def keep_p(logits: jax.Array) -> jax.Array:
        falling = -jnp.sort(-jax.nn.softmax(logits), axis=-1)
        before = jnp.cumsum(falling, -1) - falling
        share = options.top_p[:, None]
        least = jnp.where(before < share, falling, jnp.inf).min(-1, keepdims=True)
        kept = (jax.nn.softmax(logits) >= least) | (share >= 1)
        return jnp.where(kept, logits, -jnp.inf)

    few = ~greedy[:, 0] & (options.top_k < logits.shape[-1])
    logits = jax.lax.cond(few.any(), keep_k, lambda logits: logits, logits)
    likely = ~greedy[:, 0] & (options.top_p < 1)
    logits = jax.lax.cond(likely.any(), keep_p, lambda logits: logits, logits)
    least = logits.max(-1, keepdims=True) + options.log_min_p[:, None]
    return jnp.where(logits >= least, logits, -jnp.inf)


def draw_token(logits: jax.Array, slots: Slots) -> Token:
    """Draw one token per row from logits [B, V]."""
    options = slots.options
    filtered = filter_rows(logits, slots.seen, slots.counts, options)
    keys = jax.vmap(jax.random.fold_in)(jax.random.wrap_key_data(options.key), slots.drawn)
    # Each row is drawn as a batch of one, as in a sample of one.
    any_token = jax.vmap(lambda key, row: jax.random.categorical(key, row[None])[0])(keys, filtered)
    token = jnp.where(options.temperature == 0, filtered.argmax(-1), any_token).astype(jnp.int32)
    log_probs = jax.nn.log_softmax(logits)
    count = min(TOP, logits.shape[-1])

    def find(log_probs: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, places = jax.lax.top_k(log_probs, count)
        return places.astype(jnp.int32), values

    def skip(log_probs: jax.Array) -> tuple[jax.Array, jax.Array]:
        shape = (len(log_probs), count)
        return jnp.zeros(shape, jnp.int32), jnp.zeros(shape, log_probs.dtype)

    top = jax.lax.cond(options.tops.any(), find, skip, log_probs)
    return Token(token, log_probs[jnp.arange(len(token)), token], *top)


class Programs:
    """The compiled programs of a run, one for each padded shape.

    Args:
      family: family of the run.
      layout: devices of the run.
      ends: tokens that end a text.
      vocabulary: vocabulary size V.
    """

    def __init__(
        self, family: Autoregressive, layout: Layout, ends: Sequence[int], vocabulary: int
    ) -> None:
        self._family = family
        self.ends = frozenset(ends)
        self._ends = np.array(sorted(ends), np.int32)
        self.reads_prefix = family.prefix_lm
        self.vocabulary = vocabulary
        self.context: int = family.net.context
        compiled = layout.compile_evaluation
        self.read = compiled(self._read)
        self.draw = compiled(self._draw, donate_argnums=1)
        self.put = compiled(_put, donate_argnums=0)
        self.close = compiled(_close, donate_argnums=0)
        self.move = compiled(_move)
        self.keys = compiled(draw_keys)
        self.spread = compiled(_spread, static_argnums=1)

    def _reader(self, params: Any) -> TokenReader:
        return self._family.read_rows(params)

    def empty(self, params: Any, rows: int) -> Slots:
        """Make free slots."""
        number, zeros = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
        options = RowOptions(
            self.keys(number.astype(np.uint32)),
            zeros,
            number + self.vocabulary,
            zeros + 1,
            zeros - np.inf,
            zeros + 1,
            zeros,
            zeros,
            np.full((rows, BIASED), self.vocabulary, np.int32),
            np.zeros((rows, BIASED), np.float32),
            zeros > 0,
            number,
        )
        cache = self._reader(params).new_cache(rows, self.context)
        seen = jnp.zeros((rows, self.vocabulary), bool)
        last, drawn, held, free = map(jnp.asarray, (number, number, number, zeros > 0))
        options = jax.tree.map(jnp.asarray, options)
        counts = jnp.zeros((rows, self.vocabulary), jnp.int32)
        return Slots(cache, last, drawn, held, free, seen, counts, options)

    def _read(
        self,
        params: Any,
        before: Slots,
        tokens: jax.Array,
        mask: jax.Array,
        options: RowOptions,
    ) -> tuple[Slots, Token]:
        """Read tokens [R, T] after the contents of the rows ``before``, and draw one token of each.

        Args:
          before: rows with their cache and the tokens drawn, seen and counted; other fields are not
            used.
          mask: bool [R, T], False for the padding before shorter texts.
          options: options of the rows.
        """
        logits, cache = self._reader(params).model(tokens, mask, before.cache, 1)
        rows = jnp.arange(len(tokens))
        places = jnp.where(mask, tokens, self.vocabulary)
        seen = before.seen.at[rows[:, None], places].set(True, mode="drop")
        held = before.held + mask.sum(1, dtype=jnp.int32)
        read = before._replace(cache=cache, held=held, seen=seen, options=options)
        return self._next(read, logits[:, 0], options.left > 0)

    def _next(self, slots: Slots, logits: jax.Array, going: jax.Array) -> tuple[Slots, Token]:
        found = draw_token(logits, slots)
        left = slots.options.left - going
        ended = (found.token[:, None] == self._ends[None]).any(-1)
        open_ = jnp.where(going, (left > 0) & ~ended, slots.open)
        rows = jnp.arange(len(going))
        place = rows, jnp.where(going, found.token, self.vocabulary)
        after = slots._replace(
            last=jnp.where(going, found.token, slots.last),
            drawn=slots.drawn + going,
            open=open_,
            seen=slots.seen.at[place].set(True, mode="drop"),
            counts=slots.counts.at[place].add(1, mode="drop"),
            options=slots.options._replace(left=left),
        )
        return after, found._replace(token=jnp.where(going, found.token, -1))

    def _draw(self, params: Any, slots: Slots, most: jax.Array) -> tuple[Slots, Token]:
        """Draw up to ``most`` tokens of each row that is open and whose cache has room.

        The tokens are [DRAWN, B]; -1 marks places without a token.
        """
        reader = self._reader(params)
        b, count = len(slots.last), min(TOP, self.vocabulary)
        none = Token(
            jnp.full((DRAWN, b), -1, jnp.int32),
            jnp.zeros((DRAWN, b)),
            jnp.zeros((DRAWN, b, count), jnp.int32),
            jnp.zeros((DRAWN, b, count)),
        )

        def going(slots: Slots) -> jax.Array:
            return slots.open & (slots.held < self.context)

        def step(carry: tuple[jax.Array, Slots, Token]) -> tuple[jax.Array, Slots, Token]:
            at, slots, found = carry
            now = going(slots)
            logits, cache = reader.model(slots.last[:, None], now[:, None], slots.cache, 1)
            slots = slots._replace(cache=cache, held=slots.held + now)
            slots, one = self._next(slots, logits[:, 0], now)
            put = jax.lax.dynamic_update_index_in_dim
            return (
                at + 1,
                slots,
                Token(*(put(a, x, at, 0) for a, x in zip(found, one, strict=True))),
            )

        start = (jnp.zeros((), jnp.int32), slots, none)
        _, slots, found = jax.lax.while_loop(
            lambda carry: (carry[0] < most) & going(carry[1]).any(), step, start
        )
        return slots, found


def _put(slots: Slots, rows: jax.Array, fresh: Slots) -> Slots:
    """Put the rows [R] of ``fresh`` into the slots ``rows`` [R]; drop those past the last."""
    cache = slots.cache.put(rows, fresh.cache)
    others = jax.tree.map(lambda a, b: a.at[rows].set(b, mode="drop"), slots[1:], fresh[1:])
    return Slots(cache, *others)


def _move(slots: Slots, rows: jax.Array, real: jax.Array) -> Slots:
    """Return the rows [N] as new slots; those that are not ``real`` [N] are free."""
    others = Slots(slots.cache.take(rows), *jax.tree.map(lambda a: a[rows], slots[1:]))
    return others._replace(open=others.open & real)


def _close(slots: Slots, closed: jax.Array) -> Slots:
    """Free the rows ``closed`` [B]."""
    return slots._replace(open=slots.open & ~closed)


def _spread(row: Slots, count: int, kept: jax.Array) -> Slots:
    """Copy one row [1] ``count`` times, each with its first ``kept`` tokens and without drawn
    tokens.
    """
    rows = jnp.zeros(count, jnp.int32)
    spread = Slots(row.cache.take(rows), *jax.tree.map(lambda a: a[rows], row[1:]))
    held = jnp.broadcast_to(kept, (count,))
    return spread._replace(
        cache=spread.cache.rewind(spread.cache.lengths - held),
        held=held,
        drawn=jnp.zeros_like(spread.drawn),
        seen=jnp.zeros_like(spread.seen),
        counts=jnp.zeros_like(spread.counts),
    )
