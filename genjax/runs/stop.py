"""Remember signals while training, so that the run is saved before it ends."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from genjax import parallel
from genjax.machine import streams
from genjax.machine.ending import handled_signals, is_main_thread, make_exit
from genjax.runs.lease import Lease


class Stop:
    """Remembers SIGTERM, SIGINT and SIGHUP until the current step is saved; a second SIGINT
    interrupts at once.

    Args:
      lease: lease of the run directory, which another process may take over; None if this process
        holds none.
    """

    def __init__(self, lease: Lease | None = None) -> None:
        self.signal: int | None = None
        self._lease = lease
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> Stop:
        if is_main_thread():
            self._wakeup = signal.set_wakeup_fd(-1)  # saving may take longer than the grace period
            self._before = {
                number: signal.signal(number, self._remember) for number in handled_signals()
            }
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number

    @property
    def wanted(self) -> bool:
        """Whether to stop: a signal came, nobody reads the progress any more, or the lease is
        lost.
        """
        return self.signal is not None or streams.is_broken() or self.lost

    @property
    def lost(self) -> bool:
        """Whether another process has taken over the run directory, so that this one must not
        write.
        """
        return self._lease is not None and self._lease.lost

    def check(self) -> None:
        """End all processes together if the lease is lost.

        Raises:
          UserError: on the process that held the lease.
          SystemExit: on the others.
        """
        if parallel.any_process(self.lost):
            raise SystemExit(2) if self._lease is None else self._lease.make_error()

    def raise_pending(self) -> None:
        """Raise KeyboardInterrupt after SIGINT, and SystemExit with the exit code after another
        signal.
        """
        if self.signal is not None:
            raise make_exit(self.signal)
        if streams.is_broken():
            raise SystemExit(streams.BROKEN)
