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
    Prompts,
    Sliding,
    TokenModel,
    advance,
    begin,
    generate,
    pad_prompts,
)
from genjax.samplers.tokens.speculative import Speculator, speculate


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
      prompts: of each row instead of the request's, see ``align_prompts``.
    """

    reader: TokenReader
    request: Request
    rows: int
    prompts: Prompts | None = None

    @property
    def sliding(self) -> Sliding | None:
        """How texts continue past the context; None if the longest prompt and all steps fit in
        it.
        """
        context = self.reader.context
        if _room(self.request, self.prompts) <= context:
            return None
        return Sliding(context, max(context // 2, 1), lambda cache, tokens: cache.rewind(tokens))

    def draw_all(self, key: jax.Array) -> jax.Array:
        """Return all in one compiled loop, as ``texts`` gives them."""
        drawing = generate(*self._make_arguments(key), self.request.all_stops, sliding=self.sliding)
        return join_rows(self.request, drawing.tokens, drawing.lengths, self.prompts)

    def draw_first(self, key: jax.Array) -> Drawing:
        """Return the first token of each."""
        return begin(*self._make_arguments(key), self.request.all_stops)

    def draw_next(self, drawing: Drawing) -> Drawing:
        """Return one more of each."""
        return advance(
            self.reader.model, drawing, self.request.decoding, self.request.all_stops, self.sliding
        )

    def _make_arguments(
        self, key: jax.Array
    ) -> tuple[TokenModel, Any, Prompts, Decoding, jax.Array]:
        """What ``generate`` and ``begin`` start from."""
        prompts = self.prompts or Prompts(*repeat_prompts(self.request, self.rows))
        room = min(_room(self.request, self.prompts), self.reader.context)
        cache = self.reader.new_cache(self.rows, room)
        return self.reader.model, cache, prompts, self.request.decoding, key


def texts(
    reader: TokenReader,
    request: Request,
    key: jax.Array,
    n: int,
    draft: TokenReader | None = None,
    prompts: Prompts | None = None,
) -> jax.Array:
    """``n`` texts [n, P + steps] int32, P the length of the longest prompt; each followed by
    ``request.fill``.

    Args:
      reader: of the texts.
      request: how they are drawn, and what they start with.
      key: of the draws.
      n: texts.
      draft: what guesses tokens ahead; None for nothing.
      prompts: of each text instead of the request's, see ``align_prompts``.

    Raises:
      UserError: a beam search, or a draft, whose texts would be longer than the context.
    """
    decoding = request.decoding
    if decoding.beams > 1:
        _check_room(reader.context, request, 0, "a beam search (beams)", prompts)
        return _beams(reader, request, n, prompts)
    if draft is None:
        return DrawLoop(reader, request, n, prompts).draw_all(key)
    ahead = decoding.draft_tokens
    context, who = min(reader.context, draft.context), "speculative decoding (draft)"
    _check_room(context, request, ahead, who, prompts)
    rewind = lambda cache, tokens: cache.rewind(tokens)  # noqa: E731
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
    """Return prompts int32 [B, P] that are filled up with -1, with their padding before them, and
    which tokens are theirs, bool [B, P].
    """
    width = given.shape[1]
    places = jnp.arange(width)[None] - (width - (given >= 0).sum(1))[:, None]
    tokens = jnp.take_along_axis(given, jnp.maximum(places, 0), 1)
    return Prompts(jnp.where(places >= 0, tokens, 0), places >= 0)


def repeat_prompts(request: Request, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the prompts in turn, int32 and bool [rows, P], left-padded to the longest of all."""
    prompts, mask = map(np.asarray, pad_prompts(request.prompts))
    turn = np.arange(rows) % len(prompts)
    return prompts[turn], mask[turn]


def join_rows(
    request: Request, tokens: jax.Array, lengths: jax.Array, prompts: Prompts | None = None
) -> jax.Array:
    """Return prompts and what follows them [n, P + N], each text at the start of its row,
    ``request.fill`` after it.

    Args:
      request: what was requested.
      tokens: int32 [n, N], drawn.
      lengths: int32 [n], of them; sequences of ``request.stops`` at the end are taken away.
      prompts: of each row instead of the request's, see ``align_prompts``.
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
    """Of each prompt the best text, then of each the second, and after the last beam the best
    again; of a row of its own the best.
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
    """Return tokens that are read: all but the last drawn."""
    longest = prompts[0].shape[1] if prompts else max(map(len, request.prompts))
    return longest + request.decoding.steps - 1


def _check_room(
    context: int, request: Request, ahead: int, who: str, prompts: Prompts | None = None
) -> None:
    over = _room(request, prompts) + ahead - context
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
    """Return the same texts [n, P + steps] as of one compiled loop; the first is shown as it is
    drawn.

    What is shown is the start of that text as a file would hold it; the little that later
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
