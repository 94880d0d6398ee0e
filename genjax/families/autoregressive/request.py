"""What a person asks of a model of tokens, and the same as the model reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.template import ChatCodec, before_end, ends_of
from genjax.data.text.codecs import NOTHING, Unencodable
from genjax.errors import UserError
from genjax.family import Trained
from genjax.samplers.tokens.decoding import Stops, TokenSampler

DRAFT = "draft"
MOST_PROMPTS = 256  # as many texts as are drawn at once


@runtime_checkable
class ReadsTokens(Protocol):
    """A family that can guess tokens for another."""

    def reader(self, params: Any, request: Request) -> Any: ...


@checks.frozen
class Decoding(TokenSampler):
    """How texts are drawn and what they start with.

    A text may be longer than the model's context: whenever the context is full, its last half is
    read again, so that each token depends on the last context / 2 to context tokens. Beams and
    drafts stay within the context.

    Attributes:
      prompt: what all texts start with; a model of documents starts a new one with it. Of a model
        that reads a source or a picture it is the start of the answer, not what is read.
      prompts: several of them instead, of any lengths; texts take them in turn, again in every 256
        texts, and of more prompts than texts the first are taken.
      source: of a model from one sequence to another: what is translated.
      stop: texts end before the first of these that they come to after their prompt. Where a text
        has several spellings in tokens (subwords, words) it is found in the text: what was drawn is
        cut there.
      beams: above 1, nothing is drawn: the most likely texts that a beam search of this width
        finds, best first, and then again; it takes temperature 1 and no filters, and ``ends`` alone
        end its texts.
      length_penalty: of the beam search, see ``BeamSearch``.
      draft: the directory of a smaller run with the same codec, which guesses tokens ahead for this
        one to judge all at once: the same distribution, often sooner (speculative decoding, arXiv
        2211.17192). One text is drawn after another. What is drawn during training and for
        evaluators does without.
      draft_tokens: guesses at once.
      tokens: the prompt as tokens, instead; () takes ``prompt``.
      source_tokens: the source as tokens, instead; () takes ``source``.
      ends: tokens that end a text; () takes the codec's own.
    """

    prompt: str = ""
    prompts: tuple[str, ...] = ()
    source: str | None = None
    stop: tuple[str, ...] = ()
    beams: int = 1
    length_penalty: float = 0.6
    draft: str | None = None
    draft_tokens: int = 4
    tokens: tuple[int, ...] = ()
    source_tokens: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.prompt) + bool(self.prompts) + bool(self.tokens) > 1:
            raise UserError("a prompt is text, several texts or tokens, not both")
        if len(self.prompts) > MOST_PROMPTS:
            raise UserError(
                f"at most {MOST_PROMPTS} prompts are taken at once, not {len(self.prompts):,}"
            )
        if self.source is not None and self.source_tokens:
            raise UserError("a source is text or tokens, not both")
        if not all(self.stop):
            raise UserError("a stop is a text of at least one character")
        checks.between(self, 1, 10_000, "beams", "draft_tokens")
        checks.at_least(self, 0, "length_penalty")
        if self.draft is not None and self.repetition_penalty != 1:
            raise UserError("speculative decoding (draft) knows no repetition_penalty")
        if self.beams > 1:
            self._check_beams()

    def _check_beams(self) -> None:
        """Refuse what a beam search would leave out without a word."""
        plain = {
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": None,
            "top_p": None,
            "min_p": None,
        }
        for name, value in (plain | {"draft": None, "stop": ()}).items():
            if getattr(self, name) != value:
                raise UserError(
                    f"a beam search (beams) takes {name}={value}, not {getattr(self, name)}"
                )

    def with_prompts(self, prompts: tuple[str, ...]) -> Decoding:
        """With these prompts, one or several, instead of its own."""
        one, several = (prompts[0], ()) if len(prompts) == 1 else ("", prompts)
        return dataclasses.replace(self, prompt=one, prompts=several, tokens=())

    def to_request(self) -> Request:
        """What is asked where all of it is in tokens already; a text without a prompt starts with
        token 0.

        Raises:
          UserError: there are texts, which ``encode`` makes tokens of.
        """
        if self.prompt or self.prompts or self.source is not None or self.stop:
            raise UserError(
                "a model of tokens reads no text: options.encode(codec) makes tokens of it"
            )
        return Request(self, (self.tokens or (0,),), self.source_tokens, self.ends)

    @property
    def runs(self) -> Mapping[str, str]:
        return {} if self.draft is None else {DRAFT: self.draft}

    def encode(self, codec: Component, others: Mapping[str, Trained]) -> Request:
        """With the texts as tokens by the codec of a run.

        A text without a prompt starts with the codec's start, else with a new line, else with token
        0.

        Args:
          codec: of the run.
          others: the run of ``draft`` under the role "draft"; without it a draft is done without.

        Raises:
          UserError: for what is outside the codec's vocabulary.
        """
        prompts = tuple(_prompt(codec, text) for text in self.prompts or (self.prompt,))
        stops = tuple(_tokens(codec.encode, codec, stop, "the stop") for stop in self.stop)
        draft = others.get(DRAFT)
        if draft is not None and not isinstance(draft.family, ReadsTokens):
            kind = type(draft.family).__name__
            raise UserError(f"the run {draft.run_dir} is a {kind}, which guesses no tokens")
        return Request(
            self,
            (self.tokens,) if self.tokens else prompts,
            self.source_tokens if self.source is None else encode_source(codec, self.source),
            self.ends or ends_of(codec),
            stops if self.stop and codec.one_spelling else (),
            None if draft is None else draft.family,
        )


@dataclass(frozen=True)
class Request:
    """A request to a model of tokens, in tokens.

    Attributes:
      decoding: how texts are drawn.
      prompts: one or several.
      source: of a model from one sequence to another.
      ends: tokens that end a text.
      stops: sequences of tokens that end a text before themselves.
      draft: the family of a run that guesses; its arrays are in ``State.frozen["draft"]``.
    """

    decoding: Decoding
    prompts: tuple[tuple[int, ...], ...]
    source: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    stops: Stops = ()
    draft: Any = None

    @property
    def all_stops(self) -> Stops:
        """What ends a text, the ends as sequences of one."""
        return (*((end,) for end in self.ends), *self.stops)

    @property
    def fill(self) -> int:
        """What is after a text in its row: its end, or ``NOTHING`` of a model without one."""
        return self.ends[0] if self.ends else NOTHING

    def to_request(self) -> Request:
        return self

    def get_prompt(self, number: int) -> tuple[int, ...]:
        """What a sample starts with; chunks of ``MOST_PROMPTS`` start with the first prompt
        again.
        """
        return self.prompts[number % MOST_PROMPTS % len(self.prompts)]

    def check(self, vocabulary: int, context: int, source_vocabulary: int | None) -> None:
        """Refuse a request that the model cannot follow.

        Raises:
          UserError: a text that is longer than the context, or holds a token outside the
            vocabulary; a source that the model does not read, or none that it does.
        """
        asked = [("prompt", prompt, vocabulary) for prompt in self.prompts]
        asked += [("end", self.ends, vocabulary), ("source", self.source, source_vocabulary or 0)]
        for name, tokens, known in asked:
            if tokens and not known:
                raise UserError("this model reads no source: leave sampler.source out")
            if not all(0 <= token < known for token in tokens):
                raise UserError(
                    f"the {name} holds a token outside the model's vocabulary of {known:,}"
                )
            if len(tokens) > context:
                raise UserError(
                    f"the {name} is of {len(tokens):,} tokens, more than the context of {context:,}"
                )
        if source_vocabulary is not None and not self.source:
            raise UserError("this model writes what a source says: give one (sampler.source)")

    def decode(self, samples: np.ndarray, codec: Component) -> np.ndarray:
        """Return rows [N, T] whose texts end before their first ``stop``, where this could not be
        decided from their tokens.

        What a token across the cut says before it is spelled again; where it cannot be, it is left
        out.
        """
        if not self._needs_text(codec):
            return samples
        texts = (before_end(codec, row) for row in samples)
        rows = [
            self.cut_row(text, len(self.get_prompt(i)), codec)[0] for i, text in enumerate(texts)
        ]
        width = max(samples.shape[1], *map(len, rows))
        filled = np.full((len(rows), width), self.fill, np.int32)
        for target, row in zip(filled, rows, strict=True):
            target[: len(row)] = row
        return filled

    def cut_row(self, ids: np.ndarray, prompt: int, codec: Component) -> tuple[np.ndarray, bool]:
        """Return the tokens [M] of a text ids [N] before the first ``stop`` in the text after
        ``prompt`` tokens, and whether there is one.
        """
        if not self._needs_text(codec):
            return ids, False
        text, begin = codec.decode(ids), len(codec.decode(ids[:prompt]))
        found = [at for stop in self.decoding.stop if (at := text.find(stop, begin)) >= 0]
        if not found:
            return ids, False
        text = text[: min(found)]
        low, high = prompt, len(ids)
        while low < high:  # as many tokens as say no more than the text
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high)
                if len(codec.decode(ids[:middle])) <= len(text)
                else (low, middle - 1)
            )
        while low > prompt and not text.startswith(
            codec.decode(ids[:low])
        ):  # such as a part of a character
            low -= 1
        try:
            spelt = np.concatenate(
                [ids[:low], codec.encode(text[len(codec.decode(ids[:low])) :])]
            ).astype(np.int32)
        except UserError:
            return ids[:low], True
        return (spelt if codec.decode(spelt) == text else ids[:low]), True

    def _needs_text(self, codec: Component) -> bool:
        """Return whether stops are not found by their tokens."""
        return bool(self.decoding.stop) and not codec.one_spelling


def _prompt(codec: Component, text: str) -> tuple[int, ...]:
    """Return the tokens that a text starts with, the codec's start before them; of a codec of
    conversations a turn.
    """
    if text and isinstance(codec, ChatCodec):
        return _tokens(codec.whole_prompt, codec, text, "the prompt")
    lead = () if codec.start is None else (codec.start,)
    return (*lead, *_tokens(codec.encode, codec, text, "the prompt")) or _new_line(codec)


def _tokens(
    encode: Callable[[str], np.ndarray], codec: Component, text: str, where: str
) -> tuple[int, ...]:
    try:
        return tuple(encode(text).tolist()) if text else ()
    except Unencodable as error:
        raise error.shift(0, where) from None
    except TypeError:
        raise UserError(
            f"{where} is text, which {type(codec).__name__} is not for: give tokens"
        ) from None


def encode_source(codec: Component, text: str) -> tuple[int, ...]:
    """Return the tokens of a source between start and end, as the codec of pairs has them.

    Raises:
      UserError: the data have no source, or the text holds what its codec does not know.
    """
    reader = getattr(codec, "source", None)
    if reader is None:
        raise UserError("these data have no source: leave sampler.source out")
    before = () if reader.start is None else (reader.start,)
    after = () if reader.end is None else (reader.end,)
    return (*before, *_tokens(reader.encode, reader, text, "the source"), *after)


def _new_line(codec: Component) -> tuple[int, ...]:
    try:
        return tuple(codec.encode("\n").tolist()) or (0,)
    except UserError:
        return (0,)
