"""An exchange holds a prompt to a run and its answers, as they are stored; and what is noted of a
request besides.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.routing import Route

from genjax.runs.run import Run
from genjax.serial.json_text import Json
from genjax.store.access.principal import Principal
from genjax.store.monitoring.measured import LONGEST, Measured
from genjax.store.records import Payload

NOTED = "genjax.noted"  # where a request's scope has what is noted of it
UNKNOWN = "other"  # path of unknown routes


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
      request: the request, written in the same transaction; None if another exchange has it.
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
    request: Measured | None = None
    principal: Principal | None = None


@dataclass
class Noted:
    """What the guard and a route note of a request while they answer it.

    Attributes:
      route: path of the route.
      began: start of the request, by ``time.monotonic``.
      time: start of the request, in UTC.
      run: run that answers.
      user: user that the request names.
      principal: user of the request's token, who counts instead.
      tokens_in: tokens that were read.
      tokens_out: tokens that were drawn.
      first_ms: milliseconds to the first token.
      status: status that counts instead of the one that was sent, such as of a stream that failed.
      is_written: whether an exchange takes the request to the store.
    """

    route: str = UNKNOWN
    began: float = field(default_factory=clock.monotonic)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    run: Run | None = None
    user: str | None = None
    principal: Principal | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    first_ms: float | None = None
    status: int | None = None
    is_written: bool = False

    def note_first(self) -> float:
        """Note the first token; return the seconds that it took."""
        took = clock.monotonic() - self.began
        self.first_ms = 1000 * took
        return took

    def measure(self, one: str, status: int, record: str | None = None) -> Measured:
        """Return the request under an id; its run is added by the recorder."""
        user = self.user if self.principal is None else self.principal.name
        return Measured(
            one,
            self.time,
            self.route,
            status if self.status is None else self.status,
            None,
            user[:LONGEST] if user else None,
            record,
            self.tokens_in,
            self.tokens_out,
            1000 * (clock.monotonic() - self.began),
            self.first_ms,
        )


def find_noted(scope: MutableMapping[str, Any]) -> Noted:
    """Return what is noted of the request of a scope."""
    noted = scope.setdefault(NOTED, Noted())
    assert isinstance(noted, Noted)
    if isinstance(route := scope.get("route"), Route):
        noted.route = route.path
    return noted


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

    def note(self, request: Measured, run: Run | None) -> None: ...

    def close(self, patience: float | None = None) -> None: ...
