"""Texts from models of tokens that are trained: by the loop, by beams, with a draft, or a
token at a time.
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
from genjax.data.text.streaming import decode_settled
from genjax.errors import UserError
from genjax.families.autoregressive.request import MOST_PROMPTS, Decoding, Request
from genjax.samplers.tokens.beam import BeamSearch, beam_search
from genjax.samplers.tokens.decoding import (
    Drawing,
    Sliding,
    TokenModel,
    advance,
    begin,
    generate,
    pad_prompts,
)
from genjax.samplers.tokens.speculative import speculate


@dataclass(frozen=True)
class TokenReader:
    """A trained model as decoding reads with it.

    Attributes:
      model: logits with a cache.
      new_cache: numbers of rows and of tokens that each has room for to an empty cache.
      context: the most tokens that it reads.
    """

    model: TokenModel
    new_cache: Callable[[int, int], Any]
    context: int


@dataclass(frozen=True)
class DrawLoop:
    """What the plain loop works on, one call or a call a token.

    Attributes:
      reader: of the texts.
      request: prompts, stops and how texts are drawn.
      rows: texts.
    """

    reader: TokenReader
    request: Request
    rows: int

    @property
    def sliding(self) -> Sliding | None:
        """How texts continue past the context; None if the longest prompt and all steps fit in
        it.
        """
        context = self.reader.context
        if _room(self.request) <= context:
            return None
        return Sliding(context, max(context // 2, 1), lambda cache, tokens: cache.rewind(tokens))

    def draw_all(self, key: jax.Array) -> jax.Array:
        """All in one compiled loop, as ``texts`` gives them."""
        drawing = generate(*self._make_arguments(key), self.request.all_stops, sliding=self.sliding)
        return join_rows(self.request, drawing.tokens, drawing.lengths)

    def draw_first(self, key: jax.Array) -> Drawing:
        """The first token of each."""
        return begin(*self._make_arguments(key), self.request.all_stops)

    def draw_next(self, drawing: Drawing) -> Drawing:
        """One more of each."""
        return advance(
            self.reader.model, drawing, self.request.decoding, self.request.all_stops, self.sliding
        )

    def _make_arguments(
        self, key: jax.Array
    ) -> tuple[TokenModel, Any, jax.Array, jax.Array, Decoding, jax.Array]:
        """What ``generate`` and ``begin`` begin from."""
        prompts, mask = map(jnp.asarray, repeat_prompts(self.request, self.rows))
        cache = self.reader.new_cache(self.rows, min(_room(self.request), self.reader.context))
        return self.reader.model, cache, prompts, mask, self.request.decoding, key


def texts(
    reader: TokenReader, request: Request, key: jax.Array, n: int, draft: TokenReader | None = None
) -> jax.Array:
    """``n`` texts [n, P + steps] int32, P the length of the longest prompt; each followed by
    ``request.fill``.

    Raises:
      UserError: a beam search, or a draft, whose texts would be longer than the context.
    """
    decoding = request.decoding
    if decoding.beams > 1:
        _check_room(reader.context, request, 0, "a beam search (beams)")
        return _beams(reader, request, n)
    if draft is None:
        return DrawLoop(reader, request, n).draw_all(key)
    ahead = decoding.draft_tokens
    _check_room(min(reader.context, draft.context), request, ahead, "speculative decoding (draft)")
    prompts, mask = repeat_prompts(request, n)
    room = _room(request) + ahead
    found = speculate(
        reader.model,
        draft.model,
        lambda cache, tokens: cache.rewind(tokens),
        reader.new_cache(1, room),
        draft.new_cache(1, room),
        jnp.asarray(prompts),
        jnp.asarray(mask),
        decoding,
        key,
        ahead,
        request.all_stops,
    )
    return join_rows(request, found.tokens, found.lengths)


def repeat_prompts(request: Request, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The prompts in turn, int32 and bool [rows, P], left-padded to the longest of all."""
    prompts, mask = pad_prompts(request.prompts)
    turn = np.arange(rows) % len(prompts)
    return prompts[turn], mask[turn]


def join_rows(request: Request, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
    """Prompts and what follows them [n, P + N], each text at the beginning of its row,
    ``request.fill`` after it.

    Args:
      request: what was requested.
      tokens: int32 [n, N], drawn.
      lengths: int32 [n], of them; sequences of ``request.stops`` at the end are taken away.
    """
    prompts, mask = repeat_prompts(request, len(tokens))
    cut = jnp.zeros_like(lengths)
    for stop in request.stops:
        places = lengths[:, None] - len(stop) + jnp.arange(len(stop))[None]
        ending = jnp.take_along_axis(tokens, jnp.maximum(places, 0), 1)
        met = (ending == jnp.asarray(stop, jnp.int32)[None]).all(-1) & (places[:, 0] >= 0)
        cut = jnp.maximum(cut, jnp.where(met, len(stop), 0))
    kept = jnp.arange(tokens.shape[1])[None] < (lengths - cut)[:, None]
    rows = jnp.concatenate([jnp.asarray(prompts), jnp.where(kept, tokens, request.fill)], 1)
    lead = (~mask).sum(1)
    if not lead.any():
        return rows
    width = rows.shape[1]
    places = np.arange(width)[None] + lead[:, None]
    return jnp.where(
        places < width, jnp.take_along_axis(rows, np.minimum(places, width - 1), 1), request.fill
    )


def _beams(reader: TokenReader, request: Request, n: int) -> jax.Array:
    """Of each prompt the best text, then of each the second, and after the last beam the best
    again.
    """
    decoding, count = request.decoding, min(n, len(request.prompts))
    search = BeamSearch(decoding.steps, decoding.beams, decoding.length_penalty)
    prompts, mask = repeat_prompts(request, count)
    cache = reader.new_cache(count, _room(request))
    take = lambda cache, rows: cache.take(rows)  # noqa: E731
    found = beam_search(
        reader.model,
        take,
        cache,
        jnp.asarray(prompts),
        jnp.asarray(mask),
        search,
        tuple(request.ends),
    )
    number = np.arange(n)
    chosen = number % count, number // count % decoding.beams
    return join_rows(request, found.tokens[chosen], found.lengths[chosen])


def _room(request: Request) -> int:
    """Tokens that are read: all but the last drawn."""
    return max(map(len, request.prompts)) + request.decoding.steps - 1


def _check_room(context: int, request: Request, ahead: int, who: str) -> None:
    over = _room(request) + ahead - context
    if over > 0:
        most = request.decoding.steps - over
        cure = f"sampler.steps at most {most:,}" if most > 0 else "a shorter prompt"
        raise UserError(f"{who} stays within the context of {context:,} tokens: {cure}")


def check_stream(request: Request, codec: Component) -> None:
    """Refuse a stream of what is not drawn in order.

    Raises:
      UserError: for what cannot be shown as it is drawn.
    """
    if request.decoding.beams > 1 or request.draft is not None:
        raise UserError(
            "texts are streamed as they are drawn one token after another: leave beams and draft "
            "out"
        )
    if not hasattr(codec, "token_bytes"):
        raise UserError(f"a stream is of text, which {type(codec).__name__} is not for")


def stream_texts(
    first: Callable[[], Drawing],
    following: Callable[[Drawing], Drawing],
    request: Request,
    codec: Component,
    show: Callable[[str], None],
) -> np.ndarray:
    """The same texts [n, P + steps] as of one compiled loop; the first is shown as it is drawn.

    What is shown is the beginning of that text as a file would hold it; the little that later
    tokens could have changed is left out. Drawing ends early when every text has come to a ``stop``
    that is found in the text.

    Args:
      first: compiled, draws the first token of each.
      following: compiled, draws one more; it may reuse the memory of what it is given.
      request: prompts, stops and how texts are drawn.
      codec: of the run.
      show: takes the pieces of the first text, its prompt among them.
    """
    join = jax.jit(lambda tokens, lengths: join_rows(request, tokens, lengths))
    prompts = [len(request.prompts[i % len(request.prompts)]) for i in range(MOST_PROMPTS)]
    drawing, told = first(), ""
    while True:
        rows, done = np.array(join(drawing.tokens, drawing.lengths)), np.array(drawing.done)
        ids = [before_end(codec, row) for row in rows]
        text = decode_settled(
            codec, request.cut_row(ids[0], prompts[0], codec)[0], request.decoding.stop
        )
        if text.startswith(told):
            show(text[len(told) :])
            told = text
        pairs = zip(done, ids, prompts, strict=False)
        stopped = (ended or request.cut_row(row, prompt, codec)[1] for ended, row, prompt in pairs)
        if int(drawing.step) >= request.decoding.steps or all(stopped):
            return rows
        drawing = following(drawing)
