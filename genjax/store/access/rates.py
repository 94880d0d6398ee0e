"""Limit how many requests a token may make in a minute."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

MINUTE = 60.0
KEPT = 10_000  # most tokens whose requests are counted at once


class Rates:
    """Counts requests by token; each may make a minute's worth at once, then regularly.

    Args:
      most: most requests a minute; 0 for no limit.
      clock: clock in seconds that never goes back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}  # of each token what is left, and when

    def take(self, token: str, most: int | None = None) -> int | None:
        """Count a request; return the seconds to wait if it is one too many, else None.

        Args:
          token: id of the token.
          most: most requests of this token a minute; None for the usual number.
        """
        rate = self._most if most is None else most
        if not rate:
            return None
        with self._lock:
            now = self._clock()
            left, since = self._left.pop(token, (float(rate), now))
            left = min(float(rate), left + (now - since) * rate / MINUTE)
            allowed = left >= 1
            self._left[token] = (left - allowed, now)  # the last is the one used last
            if len(self._left) > KEPT:
                del self._left[next(iter(self._left))]
        return None if allowed else max(1, math.ceil((1 - left) * MINUTE / rate))
