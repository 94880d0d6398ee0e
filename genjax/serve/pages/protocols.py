"""What the pages need of a server of runs, and of one that answers from documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from genjax import checks


@dataclass(frozen=True)
class Message:
    """A turn of a conversation; ``role`` is "system", "user" or "assistant"."""

    role: str
    content: str


@checks.frozen
class Options:
    """How an answer is drawn; None leaves it to the server.

    Attributes:
      temperature: 0 takes the likeliest token.
      max_tokens: of the answer.
      seed: of the draw.
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
    """Answers by runs. The pages write what was said to the store, so this must not."""

    def models(self) -> Sequence[str]:
        """The names of the runs; where the store has a record of a run, its name."""

    def stream(
        self, model: str, messages: Sequence[Message], options: Options
    ) -> AsyncIterator[str]:
        """The answer in pieces of text; closed early when the reader goes away.

        Raises:
          UserError: the run cannot answer this, said in one line.
        """


@dataclass(frozen=True)
class Source:
    """A record that was retrieved, and the part of its text that the answer cites.

    Attributes:
      id: of the record.
      text: of it, or of the part that was read.
      start: of what is cited, in characters of ``text``; equal to ``end`` if nothing is.
      end: of what is cited.
    """

    id: str
    text: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Fault:
    """A citation that failed its check: its place in the answer, and why in a few words."""

    start: int
    end: int
    why: str


@dataclass(frozen=True)
class Answer:
    """An answer from documents.

    Attributes:
      text: of it.
      sources: that it was made from, best first.
      faults: citations in it that are wrong.
      model: the run that wrote it; None where no run did.
    """

    text: str
    sources: tuple[Source, ...] = ()
    faults: tuple[Fault, ...] = ()
    model: str | None = None


class Answers(Protocol):
    """Answers from documents. The pages call it in a thread, and store what it gives."""

    def answer(self, question: str, model: str | None, options: Options) -> Answer:
        """The answer to a question.

        Args:
          question: as it was typed.
          model: the run that should write it, if one was chosen.
          options: of the draw.

        Raises:
          UserError: it cannot be answered, said in one line.
        """
