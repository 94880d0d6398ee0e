"""What the server takes, and how long it waits."""

from __future__ import annotations

from genjax import checks


@checks.frozen
class Limits:
    """Bounds of the server.

    Attributes:
      queue: texts that wait for a slot, and other jobs, at most; more are refused with 429.
      batch: texts of a run that are drawn side by side.
      wait_ms: milliseconds that the first text waits for others to be read with it.
      memory: megabytes of parameters and caches of the runs that are loaded; the run used least
        recently goes first. 0 for half of the machine's.
      prefixes: beginnings of prompts of a run whose keys and values are kept.
      most_tokens: that a request may draw of a text.
      body_mb: megabytes of a request.
      patience: seconds that a client may take to send its request, or to read a piece of an
        answer.
      drain: seconds that requests may still take after SIGTERM.
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

    def __post_init__(self) -> None:
        checks.between(self, 1, 100_000, "queue")
        checks.between(self, 1, 1024, "batch")
        checks.between(self, 0, 1000, "wait_ms")
        checks.between(self, 0, 10**9, "memory")
        checks.between(self, 0, 10_000, "prefixes")
        checks.between(self, 1, 1_000_000, "most_tokens")
        checks.above(self, 0, "body_mb", "patience")
        checks.most(self, 1024, "body_mb")
        checks.most(self, 86_400, "patience", "drain")
        checks.at_least(self, 0, "drain")

    @property
    def memory_bytes(self) -> float:
        return self.memory * 1e6 if self.memory else checks.room(None) / 2
