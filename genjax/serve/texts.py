"""The texts of a request are rows of the engine, decoded as they are drawn."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from genjax.checks import Component
from genjax.config_files import to_json
from genjax.data.chat.template import ChatCodec, ChatTemplate, Template, Turn
from genjax.data.text.streaming import GrowingText
from genjax.errors import UserError
from genjax.families.autoregressive.request import Decoding
from genjax.runs.run import Run
from genjax.serial.json_text import Json
from genjax.serve.engine import Drawn, Finish, Options, Row
from genjax.serve.errors import ApiError, refuse
from genjax.serve.limits import Limits
from genjax.serve.models import Model
from genjax.serve.schemas import TextRequest
from genjax.serve.threads import Mailbox

# For runs without a template: turns as lines.
LINES = ChatTemplate(roles=(("system", "", "\n"), ("user", "", "\n"), ("assistant", "", "\n")))
SEEDS = 2**32


class Spelled(NamedTuple):
    """A reported token: its id, its log-probability, and the likeliest tokens in its place with
    theirs.
    """

    token: int
    log_prob: float
    tops: list[tuple[int, float]]


@dataclass(frozen=True)
class Piece:
    """New output of a text.

    Attributes:
      number: number of the text.
      text: continuation since the last piece.
      tokens: tokens of the continuation; [] unless requested.
      finish: reason for the end; None if the text continues.
    """

    number: int
    text: str
    tokens: list[Spelled]
    finish: Finish | None


@dataclass
class Text:
    """A growing text.

    Attributes:
      model: model that draws.
      prompt: tokens of the prompt.
      stop: strings before which the text ends.
      spelled: whether the tokens are reported.
      said: text so far that later tokens cannot change.
      kept: number of tokens in the text.
      drawn: all drawn tokens, except those that end a text.
    """

    model: Model
    prompt: np.ndarray
    stop: tuple[str, ...]
    spelled: bool
    said: str = ""
    kept: int = 0
    finish: Finish | None = None
    drawn: list[Spelled] = field(default_factory=list)
    reported: int = 0

    def __post_init__(self) -> None:
        self._growing = GrowingText(self.model.run.codec, self.model.spells, self.prompt)

    def feed(self, drawn: Drawn) -> tuple[str, list[Spelled]]:
        """Add drawn tokens; return the text and the tokens that are now certain."""
        assert self.model.engine is not None
        ends = self.model.engine.ends
        tops = drawn.tops or [[]] * len(drawn.tokens)
        given = zip(drawn.tokens, drawn.log_probs, tops, strict=True)
        new = [Spelled(*one) for one in given if one[0] not in ends]
        self.drawn += new
        self._growing.add([one.token for one in new])
        text, self.finish = self._growing.text, drawn.finish
        found = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            text, self.finish = text[: min(found)], "stop"
        elif self.finish is None:
            text = self._growing.settle(self.stop)
        said = text[len(self.said) :] if text.startswith(self.said) else ""
        self.said += said
        self.kept = self._count(len(text)) if found or self.spelled else len(self.drawn)
        fresh = self.drawn[self.reported : self.kept] if self.spelled else []
        self.reported = max(self.reported, self.kept)
        return said, fresh

    def _count(self, length: int) -> int:
        """Return the largest number of tokens whose text fits into ``length`` characters."""
        codec = self.model.run.codec
        ids = np.concatenate([self.prompt, np.array([one.token for one in self.drawn], np.int32)])
        begin = len(codec.decode(self.prompt))
        low, high = self.reported, len(self.drawn)
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(codec.decode(ids[: len(self.prompt) + middle])) - begin <= length
            low, high = (middle, high) if fits else (low, middle - 1)
        return low


@dataclass(frozen=True)
class Asked:
    """Options of a request for texts.

    Attributes:
      decoding: options of the draw, for the record.
      options: options of the first row.
      stop: strings that end a text.
      n: number of texts of each prompt.
      tops: number of alternatives reported with each token; None for no report at all.
    """

    decoding: Decoding
    options: Options
    stop: tuple[str, ...]
    n: int
    tops: int | None

    def describe(self) -> dict[str, Json]:
        """Return the options of the draw for the record."""
        found = to_json(self.decoding)
        assert isinstance(found, dict)
        one = self.options
        if one.frequency_penalty or one.presence_penalty:
            found["frequency_penalty"] = one.frequency_penalty
            found["presence_penalty"] = one.presence_penalty
        if one.biases:
            found["logit_bias"] = {str(token): value for token, value in one.biases}
        return found


def read_options(
    request: TextRequest,
    run: Run,
    limits: Limits,
    seed: int,
    most: int | None = None,
    tops: int | None = None,
) -> Asked:
    """Read the drawing options of a request; the run's own sampler gives the defaults.

    Raises:
      ApiError: the request has more tokens than the server draws, or a bias of an unknown token.
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
        request.frequency_penalty or 0.0,
        request.presence_penalty or 0.0,
        _read_biases(request, run),
        bool(tops),
    )
    return Asked(decoding, options, stop, request.n or 1, tops)


def _read_biases(request: TextRequest, run: Run) -> tuple[tuple[int, float], ...]:
    known = run.spec.vocabulary
    assert known is not None
    biases = {int(token): value for token, value in (request.logit_bias or {}).items()}
    if biases and max(biases) >= known:
        raise ApiError(
            400,
            f"logit_bias must be of tokens from 0 to {known - 1:,}, got {max(biases):,}",
            "logit_bias",
            "invalid_value",
        )
    return tuple(biases.items())


def encode_text(run: Run, prompt: str | Sequence[int], limit: int) -> np.ndarray:
    """Return the prompt tokens [N] int32 of a completion; the chat template of a run is not
    applied.

    Raises:
      ApiError: the prompt cannot be encoded, or is longer than the context.
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
    """Return the prompt tokens [N] int32 of a conversation, by the run's template.

    Raises:
      ApiError: the template does not support the turns, they cannot be encoded, or they are longer
        than the context.
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
    """Convert tokens for the engine.

    Raises:
      ApiError: there are no tokens, more than ``limit``, or one is outside the vocabulary.
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
    """The texts of a request while they are drawn; ``close`` frees their slots.

    Args:
      model: model that draws.
      prompts: prompts of the texts; each has ``asked.n`` texts.
      asked: options of the request.
      mailbox: mailbox of the event loop that reads the pieces.
    """

    def __init__(
        self, model: Model, prompts: Sequence[np.ndarray], asked: Asked, mailbox: Mailbox
    ) -> None:
        assert model.engine is not None
        self._arrived = asyncio.Event()
        self._fresh: dict[int, list[Drawn | Exception]] = {}
        self.prompts = list(prompts)
        self.texts: list[Text] = []
        self.rows: list[Row] = []

        def receive(index: int, drawn: Drawn | Exception) -> None:
            self._fresh.setdefault(index, []).append(drawn)
            self._arrived.set()

        def hand_over(index: int) -> Callable[[Drawn | Exception], None]:
            return lambda drawn: mailbox.post(partial(receive, index, drawn))

        for index in range(len(prompts) * asked.n):
            prompt = prompts[index // asked.n]
            seed = (asked.options.seed + index) % SEEDS
            options = dataclasses.replace(asked.options, seed=seed)
            spelled = asked.tops is not None
            self.texts.append(Text(model, prompt, asked.stop, spelled))
            self.rows.append(Row(prompt, options, hand_over(index)))

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield new pieces until all texts have ended.

        Raises:
          ApiError: the engine failed.
        """
        left = len(self.rows)
        while left:
            await self._arrived.wait()
            self._arrived.clear()
            fresh, self._fresh = self._fresh, {}
            for index, parts in fresh.items():
                text = self.texts[index]
                if text.finish is not None:
                    continue
                new, tokens = text.feed(_join(parts))
                if text.finish is not None:
                    left -= 1
                    self.rows[index].cancelled = True
                if new or tokens or text.finish is not None:
                    yield Piece(index, new, tokens, text.finish)

    def close(self) -> None:
        """Stop drawing the texts."""
        for row in self.rows:
            row.cancelled = True

    @property
    def usage(self) -> dict[str, int]:
        """Return the numbers of tokens read and drawn."""
        read = sum(map(len, self.prompts))
        drawn = sum(text.kept for text in self.texts)
        return {
            "prompt_tokens": read,
            "completion_tokens": drawn,
            "total_tokens": read + drawn,
        }


def _join(parts: Sequence[Drawn | Exception]) -> Drawn:
    """Return the tokens that arrived together as one.

    Raises:
      ApiError: the engine failed.
    """
    whole: Drawn | None = None
    for part in parts:
        if isinstance(part, Exception):
            raise ApiError(500, f"the model failed: {type(part).__name__}") from part
        whole = part if whole is None else whole.join(part)
    assert whole is not None
    return whole
