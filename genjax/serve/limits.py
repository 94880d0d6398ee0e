"""Limits bound the requests that the server accepts and the time that it waits."""

from __future__ import annotations

from genjax import checks


@checks.frozen
class Limits:
    """Limits of the server.

    Attributes:
      queue: maximum number of waiting texts and jobs; more are refused with status 429.
      batch: number of texts of a run that are drawn side by side.
      wait_ms: milliseconds that the first text waits for others to be read with it.
      memory: megabytes for parameters and caches of loaded runs; the least recently used run is
        unloaded first. 0 uses half of the machine's memory.
      prefixes: number of prompt prefixes of a run whose keys and values are kept.
      most_tokens: maximum number of tokens that a request may draw per text.
      body_mb: maximum size of a request in megabytes.
      patience: seconds that a client may take to send its request, or to read a piece of an
          answer.
      drain: seconds that open requests may still take after SIGTERM.
      rate: maximum number of requests a minute of a token that has none of its own; 0 for any.
    """

    queue: int = 256
    batch: int = 16
    wait_ms: float = 2.0
    memory: int = 0
    prefixes: int = 16
    most_tokens: int = 4096
    body_mb: float = 10.0
    patience: float = 30.0
    drain: float = 30.0
    rate: int = 6_000

    def __post_init__(self) -> None:
        checks.between(self, 1, 100_000, "queue")
        checks.between(self, 1, 1024, "batch")
        checks.between(self, 0, 1000, "wait_ms")
        checks.between(self, 0, 10**9, "memory")
        checks.between(self, 0, 10_000, "prefixes")
        checks.between(self, 1, 1_000_000, "most_tokens")
        checks.between(self, 0, 1_000_000, "rate")
        checks.above(self, 0, "body_mb", "patience")
        checks.most(self, 1024, "body_mb")
        checks.most(self, 86_400, "patience", "drain")
        checks.at_least(self, 0, "drain")

    @property
    def memory_bytes(self) -> float:
        return self.memory * 1e6 if self.memory else checks.room(None) / 2
