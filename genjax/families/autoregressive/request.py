"""Requests to a language model: as a person writes them, and in tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.chat.template import ChatCodec, before_end, ends_of
from genjax.data.text.codec_parts import HasSource
from genjax.data.text.codecs import NOTHING, Unencodable
from genjax.errors import UserError
from genjax.family import Trained
from genjax.samplers.tokens.decoding import OPEN, Stops, TokenSampler

DRAFT = "draft"
MOST_PROMPTS = 256  # the number of texts drawn at once


@runtime_checkable
class ReadsTokens(Protocol):
    """A family that can guess tokens for another."""

    def reader(self, params: Any, request: Request) -> Any: ...


@checks.frozen
class Decoding(TokenSampler):
    """Prompts and decoding options of texts.

    A text may be longer than the model's context: when the context is full, decoding re-encodes its
    last half and continues, so each token depends on the last context / 2 to context tokens. Beams
    and drafts must stay within the context.

    Attributes:
      prompt: text that all samples start with. In a model that reads a source or a picture it is
        the start of the output, not the source.
      prompts: several prompts instead, of any lengths; texts take them in turn, starting over every
        256 texts.
      source: source text of an encoder-decoder model, such as the sentence to translate.
      stop: strings before which a text ends, if they occur after its prompt. If a text has several
        spellings in tokens (subwords, words), the decoded text is searched and cut there.
      beams: above 1, width of a beam search that returns the most likely texts, best first, instead
        of drawing; it needs temperature 1 and no filters, and only ``ends`` end its texts.
      length_penalty: length penalty of the beam search, see ``BeamSearch``.
      draft: run directory of a smaller model with the same codec, which guesses tokens that this
        model checks all at once (speculative decoding, arXiv 2211.17192): the same distribution,
        often faster. Texts are drawn one after another. It is not used during training and in
        evaluation.
      draft_tokens: number of tokens guessed at once.
      tokens: prompt as tokens; () uses ``prompt``.
      source_tokens: source as tokens; () uses ``source``.
      ends: tokens that end a text; () uses the codec's own.
      self_draft: whether the model's own heads for later tokens guess, as a ``draft`` would: all of
        those that it has (``Transformer.ahead`` above 1).
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
    self_draft: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.prompt) + bool(self.prompts) + bool(self.tokens) > 1:
            raise UserError(
                "prompt, prompts and tokens exclude one another: give one of them", "prompt"
            )
        if len(self.prompts) > MOST_PROMPTS:
            raise UserError(
                f"prompts must have at most {MOST_PROMPTS} entries, got {len(self.prompts):,}",
                "prompts",
            )
        if self.source is not None and self.source_tokens:
            raise UserError(
                "source and source_tokens exclude one another: give one of them", "source"
            )
        if not all(self.stop):
            raise UserError("stop must have at least one character in each string", "stop")
        checks.between(self, 1, 10_000, "beams", "draft_tokens")
        checks.at_least(self, 0, "length_penalty")
        drafts = self.draft is not None or self.self_draft
        if self.draft is not None and self.self_draft:
            raise UserError("self_draft must be False with a draft", "self_draft")
        if drafts and self.repetition_penalty != 1:
            raise UserError("repetition_penalty must be 1 with a draft", "repetition_penalty")
        if drafts and self.given:
            raise UserError("given must be empty with a draft", "given")
        if self.beams > 1:
            self._check_beams()

    def _check_beams(self) -> None:
        """Refuse options that a beam search would silently ignore."""
        plain: dict[str, Component] = {
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": None,
            "top_p": None,
            "min_p": None,
        }
        plain |= {"draft": None, "self_draft": False, "stop": (), "given": ()}
        for name, value in plain.items():
            if getattr(self, name) != value:
                raise UserError(
                    f"{name} must be {value} in a beam search (beams), got {getattr(self, name)}",
                    name,
                )

    def with_prompts(self, prompts: tuple[str, ...]) -> Decoding:
        """Return the options with these prompts, one or several, instead."""
        one, several = (prompts[0], ()) if len(prompts) == 1 else ("", prompts)
        return dataclasses.replace(self, prompt=one, prompts=several, tokens=())

    def to_request(self) -> Request:
        """Return the request, if all of it is in tokens already; without a prompt, texts start with
        token 0.

        Raises:
          UserError: there are texts, which must be encoded first (``encode``).
        """
        if self.prompt or self.prompts or self.source is not None or self.stop:
            raise UserError("texts must be encoded first: options.encode(codec)")
        return Request(self, (self.tokens or (0,),), self.source_tokens, self.ends)

    @property
    def runs(self) -> Mapping[str, str]:
        return {} if self.draft is None else {DRAFT: self.draft}

    def encode(self, codec: Component, others: Mapping[str, Trained]) -> Request:
        """Encode the texts as tokens with the codec of a run.

        Without a prompt, texts start with the codec's start token, or else a newline, or else token
        0.

        Args:
          codec: codec of the run.
          others: run of ``draft`` under the role "draft"; without it no draft is used.

        Raises:
          UserError: a text is outside the codec's vocabulary.
        """
        prompts = tuple(encode_prompt(codec, text) for text in self.prompts or (self.prompt,))
        stops = tuple(_tokens(codec.encode, codec, stop, "the stop") for stop in self.stop)
        draft = others.get(DRAFT)
        if draft is not None and not isinstance(draft.family, ReadsTokens):
            kind = type(draft.family).__name__
            raise UserError(
                f"draft must be a language model, but {draft.run_dir} is a {kind}", "draft"
            )
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
    """A request to a language model, in tokens.

    Attributes:
      decoding: decoding options.
      prompts: one or several prompts.
      source: source of an encoder-decoder model.
      ends: tokens that end a text.
      stops: token sequences before which a text ends.
      draft: family of the draft model; its arrays are in ``State.frozen["draft"]``.
    """

    decoding: Decoding
    prompts: tuple[tuple[int, ...], ...]
    source: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    stops: Stops = ()
    draft: Any = None

    @property
    def all_stops(self) -> Stops:
        """All token sequences that end a text."""
        return (*((end,) for end in self.ends), *self.stops)

    @property
    def fill(self) -> int:
        """The padding after a text: its end token, or ``NOTHING`` if there is none."""
        return self.ends[0] if self.ends else NOTHING

    def to_request(self) -> Request:
        return self

    def get_prompt(self, number: int) -> tuple[int, ...]:
        """Return the prompt of a sample; chunks of ``MOST_PROMPTS`` start over with the first
        prompt.
        """
        return self.prompts[number % MOST_PROMPTS % len(self.prompts)]

    def check(self, vocabulary: int, context: int, source_vocabulary: int | None) -> None:
        """Refuse a request that does not fit the model.

        Raises:
          UserError: a text is longer than the context, or has a token outside the vocabulary; the
              source is missing, or the model does not read one.
        """
        asked = [("prompt", prompt, vocabulary) for prompt in self.prompts]
        given = tuple(token for token in self.decoding.given if token != OPEN)
        asked += [("end", self.ends, vocabulary), ("source", self.source, source_vocabulary or 0)]
        for name, tokens, known in asked:
            if tokens and not known:
                raise UserError(
                    "this model reads no source: leave sampler.source out", "sampler.source"
                )
            if not all(0 <= token < known for token in tokens):
                raise UserError(
                    f"the {name} has a token outside the model's vocabulary of {known:,}"
                )
            if len(tokens) > context:
                raise UserError(
                    f"the {name} must have <= {context:,} tokens (context), got {len(tokens):,}"
                )
        if not all(0 <= token < vocabulary for token in given):
            raise UserError(
                f"given must be tokens from 0 to {vocabulary - 1:,}, or -1 where one is drawn",
                "given",
            )
        if source_vocabulary is not None and not self.source:
            raise UserError("sampler.source is needed: this model reads a source", "sampler.source")

    def decode(self, samples: np.ndarray, codec: Component) -> np.ndarray:
        """Cut texts [N, T] before their first ``stop``, if stops must be found in decoded text.

        The part before the cut of a token across it is re-encoded, or dropped if that is
        impossible.
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
        """Return the tokens [M] of a text ``ids`` [N] before the first ``stop`` after its
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
        while low < high:  # the most tokens whose text is not longer than the cut one
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high)
                if len(codec.decode(ids[:middle])) <= len(text)
                else (low, middle - 1)
            )
        # A token may hold only part of a character.
        while low > prompt and not text.startswith(codec.decode(ids[:low])):
            low -= 1
        try:
            spelt = np.concatenate(
                [ids[:low], codec.encode(text[len(codec.decode(ids[:low])) :])]
            ).astype(np.int32)
        except UserError:
            return ids[:low], True
        return (spelt if codec.decode(spelt) == text else ids[:low]), True

    def _needs_text(self, codec: Component) -> bool:
        """Return whether stops must be found in the decoded text."""
        return bool(self.decoding.stop) and not codec.one_spelling


def encode_prompt(codec: Component, text: str) -> tuple[int, ...]:
    """Encode a prompt, after the codec's start token; a chat codec makes it a turn. Without a text,
    it is the start token, or else a newline, or else token 0.

    Raises:
      UserError: the text is outside the codec's vocabulary.
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
            f"{where} must be tokens, as a {type(codec).__name__} does not encode text"
        ) from None


def encode_source(codec: Component, text: str) -> tuple[int, ...]:
    """Encode a source, between start and end tokens, with the codec of pairs.

    Raises:
      UserError: the data have no source, or the text is outside the codec's vocabulary.
    """
    if not isinstance(codec, HasSource):
        raise UserError("these data have no source: leave sampler.source out", "sampler.source")
    reader = codec.source
    before = () if reader.start is None else (reader.start,)
    after = () if reader.end is None else (reader.end,)
    return (*before, *_tokens(reader.encode, reader, text, "the source"), *after)


def _new_line(codec: Component) -> tuple[int, ...]:
    try:
        return tuple(codec.encode("\n").tolist()) or (0,)
    except UserError:
        return (0,)
