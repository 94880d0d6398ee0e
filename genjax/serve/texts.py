"""Texts of a request: rows of the engine, turned into text as they are drawn."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from genjax.checks import Component
from genjax.data.chat.template import ChatCodec, ChatTemplate, Template, Turn
from genjax.data.text.streaming import decode_settled
from genjax.errors import UserError
from genjax.families.autoregressive.request import Decoding
from genjax.runs.run import Run
from genjax.serve.engine import Drawn, Finish, Options, Row
from genjax.serve.errors import ApiError, refuse
from genjax.serve.limits import Limits
from genjax.serve.models import Model
from genjax.serve.schemas import TextRequest

# For runs that have not learned a template: turns as lines.
LINES = ChatTemplate(roles=(("system", "", "\n"), ("user", "", "\n"), ("assistant", "", "\n")))
SEEDS = 2**32


class Spelled(NamedTuple):
    """A token as an answer reports it: what it says, its log-probability, and the likeliest ones
    in its place.
    """

    token: int
    log_prob: float
    tops: list[tuple[int, float]]


@dataclass(frozen=True)
class Piece:
    """What is new of a text.

    Attributes:
      number: of the text.
      text: that follows what was said before.
      tokens: of it; [] unless they are wanted.
      finish: why it ended; None if it continues.
    """

    number: int
    text: str
    tokens: list[Spelled]
    finish: Finish | None


@dataclass
class Text:
    """A text that grows.

    Attributes:
      codec: of the run.
      prompt: tokens that it starts with.
      stop: texts before which it ends.
      ends: tokens that end it.
      spelled: whether its tokens are reported.
      said: of it so far, what later tokens cannot change.
      kept: tokens of it.
      drawn: all that was drawn.
    """

    codec: Component
    prompt: np.ndarray
    stop: tuple[str, ...]
    ends: frozenset[int]
    spelled: bool
    said: str = ""
    kept: int = 0
    finish: Finish | None = None
    drawn: list[Spelled] = field(default_factory=list)
    begin: int = 0
    reported: int = 0

    def __post_init__(self) -> None:
        self.begin = len(self.codec.decode(self.prompt))

    def feed(self, drawn: Drawn) -> tuple[str, list[Spelled]]:
        """The text, and the tokens, that are certain now."""
        tops = drawn.tops or [[]] * len(drawn.tokens)
        self.drawn += map(Spelled, drawn.tokens, drawn.log_probs, tops)
        ids = [one.token for one in self.drawn if one.token not in self.ends]
        text = self._decode(ids)
        self.finish = drawn.finish
        found = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            text, self.finish = text[: min(found)], "stop"
        elif self.finish is None:
            text = decode_settled(self.codec, self._join(ids), self.stop)[self.begin :]
        new = text[len(self.said) :] if text.startswith(self.said) else ""
        self.said += new
        self.kept = self._count(ids, len(text)) if found or self.spelled else len(ids)
        fresh = self.drawn[self.reported : self.kept] if self.spelled else []
        self.reported = max(self.reported, self.kept)
        return new, fresh

    def _join(self, ids: list[int]) -> np.ndarray:
        return np.concatenate([self.prompt, np.array(ids, np.int32)])

    def _decode(self, ids: list[int]) -> str:
        text: str = self.codec.decode(self._join(ids))
        return text[self.begin :]

    def _count(self, ids: list[int], length: int) -> int:
        """Tokens that say no more than as many characters."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(self._decode(ids[:middle])) <= length
            low, high = (middle, high) if fits else (low, middle - 1)
        return low


@dataclass(frozen=True)
class Asked:
    """What a request asks of a run.

    Attributes:
      decoding: how texts are drawn, for the record.
      options: of the first row.
      stop: texts that end a text.
      n: texts of each prompt.
      tops: alternatives that are reported with each token; None for no report at all.
    """

    decoding: Decoding
    options: Options
    stop: tuple[str, ...]
    n: int
    tops: int | None


def read_options(
    request: TextRequest,
    run: Run,
    limits: Limits,
    seed: int,
    most: int | None = None,
    tops: int | None = None,
) -> Asked:
    """How the texts of a request are drawn: as it says, else as the run's own sampler does.

    Raises:
      ApiError: more tokens than the server draws.
    """
    own: Decoding = run.family.sampler
    most = most or request.max_tokens or min(own.steps, limits.most_tokens)
    if most > limits.most_tokens:
        raise ApiError(
            400,
            f"max_tokens must be at most {limits.most_tokens:,}, got {most:,}",
            "max_tokens",
            "invalid_value",
        )
    named = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    given = {name: getattr(request, name) for name in named}
    changes: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
    plain: dict[str, Any] = {"prompt": "", "prompts": (), "tokens": (), "beams": 1, "draft": None}
    stop = request.stops if request.stop is not None else own.stop
    decoding = dataclasses.replace(own, **plain, **changes, steps=most, stop=stop)
    options = Options(
        seed,
        most,
        decoding.temperature,
        decoding.top_k,
        decoding.top_p,
        decoding.min_p,
        decoding.repetition_penalty,
        bool(tops),
    )
    return Asked(decoding, options, stop, request.n or 1, tops)


def encode_text(run: Run, prompt: str | Sequence[int], limit: int) -> np.ndarray:
    """The tokens [N] int32 that a completion starts with; of a run of conversations without the
    template.

    Raises:
      ApiError: it cannot be encoded, or is longer than the context.
    """
    codec = run.codec
    tokens = codec.tokens if isinstance(codec, ChatCodec) else codec
    decoding = dataclasses.replace(run.family.sampler, source=None, stop=(), beams=1, draft=None)
    if isinstance(prompt, str):
        try:
            decoding = decoding.with_prompts((prompt,))
            (ids,) = decoding.encode(tokens, {}).prompts
        except UserError as error:
            raise refuse(error, "prompt") from None
    else:
        ids = tuple(prompt)
    return check_prompt(run, ids, limit, "prompt")


def encode_chat(run: Run, turns: Sequence[tuple[str, str]]) -> np.ndarray:
    """The tokens [N] int32 that an answer to these turns follows, by the run's template.

    Raises:
      ApiError: the template has no form for them, they cannot be encoded, or are longer than the
        context.
    """
    codec: Component = run.codec
    template: Template = LINES
    if isinstance(codec, ChatCodec):
        codec, template = codec.tokens, codec.template
    said = tuple(Turn(role, text) for role, text in turns)
    try:
        ids = template.prompt_tokens(codec, said)
    except UserError as error:
        raise refuse(error, "messages") from None
    lead = [codec.start] if template.starts(codec) else []
    return check_prompt(run, [*lead, *ids.tolist()], run.family.net.context, "messages")


def check_prompt(run: Run, ids: Sequence[int], limit: int, param: str) -> np.ndarray:
    """The tokens as the engine takes them.

    Raises:
      ApiError: there are none, or more than ``limit``, or one is outside the vocabulary.
    """
    count, known = len(ids), run.spec.vocabulary
    if not count:
        raise ApiError(400, f"{param} must be at least one token", param, "invalid_value")
    if count > limit:
        raise ApiError(
            400,
            f"{param} must be at most {limit:,} tokens, the context of the model, got {count:,}",
            param,
            "context_length_exceeded",
        )
    assert known is not None
    if not all(0 <= one < known for one in ids):
        raise ApiError(
            400, f"{param} must be of tokens from 0 to {known - 1:,}", param, "invalid_value"
        )
    return np.array(ids, np.int32)


class Generation:
    """The texts of a request while they are drawn; ``close`` gives their slots back.

    Args:
      model: that draws.
      prompts: of the texts; each is followed by ``asked.n``.
      asked: how.
    """

    def __init__(self, model: Model, prompts: Sequence[np.ndarray], asked: Asked) -> None:
        assert model.engine is not None
        engine, loop = model.engine, asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Drawn | Exception]] = asyncio.Queue()
        self.prompts = list(prompts)
        self.texts: list[Text] = []
        self.rows: list[Row] = []

        def hand_over(index: int) -> Any:
            def emit(drawn: Drawn | Exception) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._queue.put_nowait, (index, drawn))

            return emit

        for index in range(len(prompts) * asked.n):
            prompt = prompts[index // asked.n]
            seed = (asked.options.seed + index) % SEEDS
            options = dataclasses.replace(asked.options, seed=seed)
            spelled = asked.tops is not None
            self.texts.append(Text(model.run.codec, prompt, asked.stop, engine.ends, spelled))
            self.rows.append(Row(prompt, options, hand_over(index)))

    async def pieces(self) -> AsyncIterator[Piece]:
        """What is new, until all texts have ended.

        Raises:
          ApiError: the engine failed.
        """
        left = len(self.rows)
        while left:
            index, drawn = await self._queue.get()
            text = self.texts[index]
            if isinstance(drawn, Exception):
                raise ApiError(500, f"the model failed: {type(drawn).__name__}") from drawn
            if text.finish is not None:
                continue
            new, tokens = text.feed(drawn)
            if text.finish is not None:
                left -= 1
                self.rows[index].cancelled = True
            if new or tokens or text.finish is not None:
                yield Piece(index, new, tokens, text.finish)

    def close(self) -> None:
        """Draw no more of it."""
        for row in self.rows:
            row.cancelled = True

    @property
    def usage(self) -> dict[str, int]:
        """Tokens that were read and drawn."""
        read = sum(map(len, self.prompts))
        drawn = sum(text.kept for text in self.texts)
        return {
            "prompt_tokens": read,
            "completion_tokens": drawn,
            "total_tokens": read + drawn,
        }
