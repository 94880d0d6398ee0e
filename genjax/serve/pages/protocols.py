"""Protocols define what the pages need from a server of runs and from answers by documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from genjax import checks
from genjax.store.store import Store


@dataclass(frozen=True)
class Message:
    """A turn of a conversation; ``role`` is "system", "user" or "assistant"."""

    role: str
    content: str


@checks.frozen
class Options:
    """Options of an answer's draw; None leaves an option to the server.

    Attributes:
      temperature: sampling temperature; 0 takes the likeliest token.
      max_tokens: maximum number of tokens of the answer.
      seed: random seed of the draw.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            checks.between(self, 0, 100, "temperature")
        if self.max_tokens is not None:
            checks.between(self, 1, 1_000_000, "max_tokens")
        if self.seed is not None:
            checks.between(self, 0, 2**31 - 1, "seed")


class Chat(Protocol):
    """A chat with runs. The pages store the conversation, so an implementation must not."""

    def models(self) -> Sequence[str]:
        """Return the names of the runs, as in their records if the store has them."""

    def stream(
        self, model: str, messages: Sequence[Message], options: Options
    ) -> AsyncIterator[str]:
        """Stream the answer in pieces of text; the stream is closed early if the reader leaves.

        Raises:
          UserError: the run cannot answer; the message is one line.
        """


@dataclass(frozen=True)
class Source:
    """A retrieved record, and the part of its text that the answer cites.

    Attributes:
      id: id of the record.
      text: text of the record, or of the part that was read.
      start: start of the citation in characters of ``text``; equal to ``end`` if nothing is cited.
      end: end of the citation in characters of ``text``.
    """

    id: str
    text: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Fault:
    """A citation that failed its check: its place in the answer, and the reason in a few words."""

    start: int
    end: int
    why: str


@dataclass(frozen=True)
class Answer:
    """An answer from documents.

    Attributes:
      text: text of the answer.
      sources: sources of the answer, best first.
      faults: invalid citations in the answer.
      model: run that wrote the answer; None if no run did.
    """

    text: str
    sources: tuple[Source, ...] = ()
    faults: tuple[Fault, ...] = ()
    model: str | None = None


class Answers(Protocol):
    """Answers from documents. The pages call this in a thread, and store the result."""

    def answer(self, question: str, model: str | None, options: Options, store: Store) -> Answer:
        """Answer a question.

        Args:
          question: question as typed.
          model: run that writes the answer; None if none was chosen.
          options: options of the draw.
          store: store as the one who asks sees it.

        Raises:
          UserError: the question cannot be answered; the message is one line.
        """
