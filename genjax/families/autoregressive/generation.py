"""Draws texts from trained language models: in a loop, by beam search, with a draft model, or as a
stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import before_end
from genjax.data.text.codec_parts import HasTokenBytes
from genjax.data.text.streaming import decode_settled
from genjax.errors import UserError
from genjax.families.autoregressive.request import MOST_PROMPTS, Decoding, Request
from genjax.samplers.tokens.beam import BeamSearch, beam_search
from genjax.samplers.tokens.decoding import (
    Drawing,
    Prompts,
    Sliding,
    TokenModel,
    advance,
    generate,
    pad_prompts,
    start,
)
from genjax.samplers.tokens.self_speculative import AheadModel, SelfSpeculator
from genjax.samplers.tokens.speculative import Speculator, speculate


@dataclass(frozen=True)
class Ahead:
    """A model whose heads guess the tokens after the next.

    Attributes:
      model: model with heads.
      new_cache: creates an empty cache for it, like that of ``TokenReader``.
      heads: number of next tokens.
    """

    model: AheadModel
    new_cache: Callable[[int, int], Any]
    heads: int


@dataclass(frozen=True)
class TokenReader:
    """A trained model as decoding uses it.

    Attributes:
      model: model with a cache.
      new_cache: function of the number of rows and of tokens per row that creates an empty cache.
      context: maximum number of tokens.
      period: tokens by which a text may be shifted without a change of the phases that the model
        knows, see ``Transformer.periods``.
      ahead: the model with its heads for later tokens; None if it has none.
    """

    model: TokenModel
    new_cache: Callable[[int, int], Any]
    context: int
    period: int = 1
    ahead: Ahead | None = None


@dataclass(frozen=True)
class DrawLoop:
    """Plain decoding, in one call or a call per token.

    Attributes:
      reader: model.
      request: prompts, stops and decoding options.
      rows: number of texts.
      prompts: prompt of each row, instead of the request's; see ``align_prompts``.
    """

    reader: TokenReader
    request: Request
    rows: int
    prompts: Prompts | None = None

    @property
    def sliding(self) -> Sliding | None:
        """How texts continue past the context; None if the longest prompt and all steps fit."""
        context = self.reader.context
        if _room(self.request, self.prompts) <= context:
            return None
        # Positions start over, so the tokens left out must be whole periods.
        period = self.reader.period
        left_out = -(-(context + 1 - max(context // 2, 1)) // period) * period
        keep = max(context + 1 - left_out, 1)
        return Sliding(context, keep, lambda cache, tokens: cache.rewind(tokens))

    def draw_all(self, key: jax.Array) -> jax.Array:
        """Draw all texts in one compiled loop, in the form of ``draw_texts``."""
        drawing = generate(*self._make_arguments(key), self.request.all_stops, sliding=self.sliding)
        return join_rows(self.request, drawing.tokens, drawing.lengths, self.prompts)

    def draw_first(self, key: jax.Array) -> Drawing:
        """Draw the first token of each text."""
        return start(*self._make_arguments(key), self.request.all_stops)

    def draw_next(self, drawing: Drawing) -> Drawing:
        """Draw one more token of each text."""
        return advance(
            self.reader.model, drawing, self.request.decoding, self.request.all_stops, self.sliding
        )

    def _make_arguments(
        self, key: jax.Array
    ) -> tuple[TokenModel, Any, Prompts, Decoding, jax.Array]:
        """Return the first arguments of ``generate`` and ``start``."""
        prompts = self.prompts or Prompts(*repeat_prompts(self.request, self.rows))
        room = min(_room(self.request, self.prompts), self.reader.context)
        cache = self.reader.new_cache(self.rows, room)
        return self.reader.model, cache, prompts, self.request.decoding, key


def draw_texts(
    reader: TokenReader,
    request: Request,
    key: jax.Array,
    n: int,
    draft: TokenReader | None = None,
    prompts: Prompts | None = None,
) -> jax.Array:
    """Draw ``n`` texts, int32 [n, P + steps], padded with ``request.fill``; P is the length of the
    longest prompt.

    Args:
      reader: model.
      request: prompts and decoding options.
      key: random key.
      n: number of texts.
      draft: model that guesses tokens ahead; None for none.
      prompts: prompt of each text, instead of the request's; see ``align_prompts``.

    Raises:
      UserError: a beam search, or a draft, would exceed the context; the model has no heads to
          draft with.
    """
    decoding = request.decoding
    rewind = lambda cache, tokens: cache.rewind(tokens)  # noqa: E731
    if decoding.beams > 1:
        _check_room(reader.context, request, 0, "a beam search (beams)", prompts)
        return _beams(reader, request, n, prompts)
    if decoding.self_draft:
        if reader.ahead is None:
            raise UserError(
                "self_draft must be False for a net without heads for later tokens (net.ahead)",
                "self_draft",
            )
        who, heads = "self-speculative decoding (self_draft)", reader.ahead.heads
        _check_room(reader.context, request, heads - 1, who, prompts)
        given = prompts or Prompts(*repeat_prompts(request, n))
        found = SelfSpeculator(reader.ahead.model, heads, rewind, decoding, request.all_stops).draw(
            reader.ahead.new_cache(1, _room(request, prompts) + heads - 1), given, key
        )
        return join_rows(request, found.tokens, found.lengths, prompts)
    if draft is None:
        return DrawLoop(reader, request, n, prompts).draw_all(key)
    ahead = decoding.draft_tokens
    context, who = min(reader.context, draft.context), "speculative decoding (draft)"
    _check_room(context, request, ahead, who, prompts)
    room = _room(request, prompts) + ahead
    found = speculate(
        Speculator(reader.model, draft.model, rewind, decoding, ahead, request.all_stops),
        reader.new_cache(1, room),
        draft.new_cache(1, room),
        prompts or Prompts(*repeat_prompts(request, n)),
        key,
    )
    return join_rows(request, found.tokens, found.lengths, prompts)


def align_prompts(given: jax.Array) -> Prompts:
    """Turn prompts int32 [B, P] padded with -1 on the right into left-padded ones."""
    width = given.shape[1]
    places = jnp.arange(width)[None] - (width - (given >= 0).sum(1))[:, None]
    tokens = jnp.take_along_axis(given, jnp.maximum(places, 0), 1)
    return Prompts(jnp.where(places >= 0, tokens, 0), places >= 0)


def repeat_prompts(request: Request, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Repeat the prompts in turn, left-padded to the longest: tokens int32 [rows, P] and mask bool
    [rows, P].
    """
    prompts, mask = map(np.asarray, pad_prompts(request.prompts))
    turn = np.arange(rows) % len(prompts)
    return prompts[turn], mask[turn]


def join_rows(
    request: Request, tokens: jax.Array, lengths: jax.Array, prompts: Prompts | None = None
) -> jax.Array:
    """Join prompts and new tokens to texts [n, P + N], each at the start of its row, padded with
    ``request.fill``.

    Args:
      request: request that was drawn.
      tokens: int32 [n, N], new tokens.
      lengths: int32 [n], number of new tokens; sequences of ``request.stops`` at the end are
          removed.
      prompts: prompt of each row, instead of the request's; see ``align_prompts``.
    """
    before, mask = prompts or repeat_prompts(request, len(tokens))
    cut = jnp.zeros_like(lengths)
    for stop in request.stops:
        places = lengths[:, None] - len(stop) + jnp.arange(len(stop))[None]
        ending = jnp.take_along_axis(tokens, jnp.maximum(places, 0), 1)
        met = (ending == jnp.asarray(stop, jnp.int32)[None]).all(-1) & (places[:, 0] >= 0)
        cut = jnp.maximum(cut, jnp.where(met, len(stop), 0))
    kept = jnp.arange(tokens.shape[1])[None] < (lengths - cut)[:, None]
    rows = jnp.concatenate([jnp.asarray(before), jnp.where(kept, tokens, request.fill)], 1)
    lead = (~mask).sum(1)
    if prompts is None and not lead.any():
        return rows
    width = rows.shape[1]
    places = jnp.arange(width)[None] + lead[:, None]
    return jnp.where(
        places < width, jnp.take_along_axis(rows, jnp.minimum(places, width - 1), 1), request.fill
    )


def _beams(
    reader: TokenReader, request: Request, n: int, given: Prompts | None = None
) -> jax.Array:
    """Return the best text of each prompt, then the second of each and so on, starting over after
    the last beam. With ``given`` prompts it is the best text of each.
    """
    decoding, count = request.decoding, n if given else min(n, len(request.prompts))
    search = BeamSearch(decoding.steps, decoding.beams, decoding.length_penalty)
    prompts = given or Prompts(*repeat_prompts(request, count))
    cache = reader.new_cache(count, _room(request, given))
    take = lambda cache, rows: cache.take(rows)  # noqa: E731
    found = beam_search(
        reader.model,
        take,
        cache,
        prompts,
        search,
        tuple(request.ends),
    )
    number = np.arange(n)
    chosen = number % count, number // count % decoding.beams
    return join_rows(request, found.tokens[chosen], found.lengths[chosen], given)


def _room(request: Request, prompts: Prompts | None = None) -> int:
    """Return the number of tokens that the model reads: all but the last one drawn."""
    longest = prompts[0].shape[1] if prompts else max(map(len, request.prompts))
    return longest + request.decoding.steps - 1


def _check_room(
    context: int, request: Request, ahead: int, who: str, prompts: Prompts | None = None
) -> None:
    over = _room(request, prompts) + ahead - context
    if over > 0:
        most = request.decoding.steps - over
        cure = f"set sampler.steps to at most {most:,}" if most > 0 else "shorten the prompt"
        raise UserError(f"{who} must stay within the context of {context:,} tokens: {cure}")


def check_stream(request: Request, codec: Component) -> None:
    """Refuse requests that cannot be streamed.

    Raises:
      UserError: there are beams or a draft, or the codec is not one of text.
    """
    decoding = request.decoding
    if decoding.beams > 1 or decoding.self_draft or request.draft is not None:
        raise UserError("a stream draws one token after another: leave beams and draft out")
    if not isinstance(codec, HasTokenBytes):
        raise UserError(f"a stream needs a text codec, got a {type(codec).__name__}")


def stream_texts(
    first: Callable[[], Drawing],
    following: Callable[[Drawing], Drawing],
    request: Request,
    codec: Component,
    show: Callable[[str], None],
) -> np.ndarray:
    """Draw the same texts [n, P + steps] as one compiled loop, and show the first as it is drawn.

    Characters that later tokens may still change are held back. Drawing ends early when every text
    has a ``stop``.

    Args:
      first: compiled function that draws the first token of each text.
      following: compiled function that draws one more; it may reuse the memory of its argument.
      request: prompts, stops and decoding options.
      codec: codec of the run.
      show: callback that gets the pieces of the first text, including its prompt.
    """
    join = jax.jit(lambda tokens, lengths: join_rows(request, tokens, lengths))
    prompts = [len(request.prompts[i % len(request.prompts)]) for i in range(MOST_PROMPTS)]
    drawing, shown = first(), ""
    while True:
        rows, done = np.array(join(drawing.tokens, drawing.lengths)), np.array(drawing.done)
        ids = [before_end(codec, row) for row in rows]
        text = decode_settled(
            codec, request.cut_row(ids[0], prompts[0], codec)[0], request.decoding.stop
        )
        if text.startswith(shown):
            show(text[len(shown) :])
            shown = text
        pairs = zip(done, ids, prompts, strict=False)
        stopped = (ended or request.cut_row(row, prompt, codec)[1] for ended, row, prompt in pairs)
        if int(drawing.step) >= request.decoding.steps or all(stopped):
            return rows
        drawing = following(drawing)
