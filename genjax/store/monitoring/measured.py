"""What is kept of a request to a server; this file needs no database, so that any server may import
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Measured:
    """A request to a server, without its text.

    Attributes:
      id: id of the request, see ``genjax.store.rows.make_ids``.
      time: when it came, in UTC.
      route: its path, as "/v1/chat/completions"; "other" for an unknown one.
      status: HTTP status of the answer; that of the failure where a stream failed on its way.
      run: id of the run's record; None if no run was found.
      user: the user that the request names.
      record: id of the first answer's record; None if nothing was stored.
      tokens_in: tokens that were read.
      tokens_out: tokens that were drawn.
      milliseconds: time of the whole answer.
      first_ms: time to the first token.
    """

    id: str
    time: datetime
    route: str
    status: int
    run: str | None = None
    user: str | None = None
    record: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    milliseconds: float | None = None
    first_ms: float | None = None
