"""What a person asks of a model of tokens, and the same as the model reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from genjax.data.text_codecs import Unencodable
from genjax.errors import UserError
from genjax.samplers.decoding import TokenSampler


@dataclass(frozen=True)
class Decoding(TokenSampler):
    """How texts are drawn and what they begin with.

    Attributes:
      prompt: what all texts begin with; a model of documents begins a new one with it.
      source: of a model from one sequence to another: what is translated.
      tokens: the prompt as tokens, in its place; () takes ``prompt``.
      source_tokens: the source as tokens, in its place; () takes ``source``.
      ends: tokens that end a text; () takes the codec's own.
    """

    prompt: str = ""
    source: str | None = None
    tokens: tuple[int, ...] = ()
    source_tokens: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt and self.tokens:
            raise UserError("a prompt is text or tokens, not both")
        if self.source is not None and self.source_tokens:
            raise UserError("a source is text or tokens, not both")

    def encoded(self, codec: Any) -> Decoding:
        """With the texts as tokens by the codec of a run.

        A text without a prompt begins with the codec's start, else with a new line, else with token 0.

        Raises:
          UserError: for what is outside the codec's vocabulary.
        """
        tokens, source = self.tokens, self.source_tokens
        if not tokens:
            lead = () if codec.start is None else (codec.start,)
            tokens = (*lead, *_tokens(codec, self.prompt, "the prompt")) or _new_line(codec)
        if self.source is not None:
            source = _source(codec, self.source)
        ends = self.ends or (() if codec.end is None else (codec.end,))
        return dataclasses.replace(self, prompt="", source=None, tokens=tokens, source_tokens=source, ends=ends)


def _tokens(codec: Any, text: str, where: str) -> tuple[int, ...]:
    try:
        return tuple(codec.encode(text).tolist()) if text else ()
    except Unencodable as error:
        raise error.moved(0, where) from None
    except TypeError:
        raise UserError(f"{where} is text, which {type(codec).__name__} is not for: give tokens") from None


def _source(codec: Any, text: str) -> tuple[int, ...]:
    """Between start and end, as the codec of pairs has them."""
    reader = getattr(codec, "source", None)
    if reader is None:
        raise UserError("these data have no source: leave sampler.source out")
    before = () if reader.start is None else (reader.start,)
    after = () if reader.end is None else (reader.end,)
    return (*before, *_tokens(reader, text, "the source"), *after)


def _new_line(codec: Any) -> tuple[int, ...]:
    try:
        return tuple(codec.encode("\n").tolist()) or (0,)
    except UserError:
        return (0,)
