"""What was asked of a run and what it answered, as it goes to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from genjax.runs.run import Run
from genjax.serial.json_text import Json
from genjax.store.records import Payload


@dataclass(frozen=True)
class Answer:
    """One of the answers of an exchange.

    Attributes:
      id: of its record.
      payload: what it says, or shows.
      seed: that it was drawn by.
      tokens: of it.
      finish: why it ended.
    """

    id: str
    payload: Payload
    seed: int | None = None
    tokens: int | None = None
    finish: str | None = None


@dataclass(frozen=True)
class Exchange:
    """What was asked of a run, and what it answered.

    Attributes:
      run: that answered.
      turns: roles and texts, the last the prompt; the role "" of plain text.
      answers: to it.
      sampler: options of the draw.
      milliseconds: that it took.
      user: who asked.
      metadata: of the request: "session" is the name or id of the conversation, "parent" the id of
        the prompt or response that its last turn follows.
      sources: ids of the records that the answer was made from.
      time: of it.
    """

    run: Run
    turns: Sequence[tuple[str, str]]
    answers: Sequence[Answer]
    sampler: Mapping[str, Json]
    milliseconds: float
    user: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


class Keeper(Protocol):
    """Writes exchanges down: a ``genjax.serve.recording.Recorder``.

    Attributes:
      lost: exchanges that will never be in the store.
      behind: exchanges that wait for it.
    """

    lost: int
    behind: int

    def make_ids(self, count: int) -> list[str]: ...

    def write(self, exchange: Exchange) -> Future[bool]: ...

    def close(self) -> None: ...
