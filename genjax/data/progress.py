"""Report the progress of a long reading on stderr now and then."""

from __future__ import annotations

import sys
import time


class ReadProgress:
    """Prints at most one line every ``every`` seconds."""

    def __init__(self, every: float = 5.0) -> None:
        self._every = every
        self._last = time.monotonic()

    def show(self, line: str) -> None:
        """Print a line on stderr, if it is time for one."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            print(line, file=sys.stderr, flush=True)
