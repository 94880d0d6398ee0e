"""An exchange holds a prompt to a run and its answers, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from genjax.runs.run import Run
from genjax.serial.json_text import Json
from genjax.store.access.principal import Principal
from genjax.store.records import Payload


@dataclass(frozen=True)
class Answer:
    """An answer in an exchange.

    Attributes:
      id: id of the answer's record.
      payload: text or media of the answer.
      seed: random seed of the draw.
      tokens: number of tokens.
      finish: reason for the end.
    """

    id: str
    payload: Payload
    seed: int | None = None
    tokens: int | None = None
    finish: str | None = None


@dataclass(frozen=True)
class Exchange:
    """A prompt to a run and its answers.

    Attributes:
      run: run that answered.
      turns: roles and texts, the prompt last; plain text has the role "".
      answers: answers to the prompt.
      sampler: options of the draw.
      milliseconds: duration of the request.
      user: user who asked.
      metadata: metadata of the request: "session" is the name or id of the conversation, "parent"
        the id of the prompt or response that the last turn follows.
      sources: ids of the records on which the answer is based.
      time: time of the exchange.
      principal: user of the request's token, who must see the records that the request names.
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
    principal: Principal | None = None


class Keeper(Protocol):
    """A writer of exchanges, such as ``genjax.serve.recording.Recorder``.

    Attributes:
      lost: number of exchanges that will never be in the store.
      behind: number of exchanges that wait for the store.
    """

    lost: int
    behind: int

    def make_ids(self, count: int) -> list[str]: ...

    def write(self, exchange: Exchange) -> Future[bool]: ...

    def close(self) -> None: ...
