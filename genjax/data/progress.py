"""A line on stderr now and then, for the user for a long reading."""

from __future__ import annotations

import sys
import time


class ReadProgress:
    """Says how far something is, first after ``every`` seconds and then each time as many have
    passed.
    """

    def __init__(self, every: float = 5.0) -> None:
        self._every = every
        self._last = time.monotonic()

    def show(self, line: str) -> None:
        """Print a line on stderr, if it is time for one."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            print(line, file=sys.stderr, flush=True)
