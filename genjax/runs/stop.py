"""Handle signals that end a process: a training run saves first, other commands end at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from genjax import parallel
from genjax.errors import Signalled
from genjax.machine import early, streams
from genjax.runs.lease import Lease

GRACE = 3.0  # seconds in which a command may clean up
OVER = 0  # no signal
ENDING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


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
        if _is_main():
            self._wakeup = signal.set_wakeup_fd(-1)  # saving may take longer than the grace period
            self._before = {
                number: signal.signal(number, self._remember) for number in _handled_signals()
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
            raise _make_exit(self.signal)
        if streams.is_broken():
            raise SystemExit(streams.BROKEN)


class Ended:
    """The signal that came while ``stop_promptly`` was active.

    Attributes:
      code: 128 plus its number; None if there was none.
    """

    def __init__(self) -> None:
        self.code: int | None = None


@contextlib.contextmanager
def stop_promptly() -> Iterator[Ended]:
    """End the block within seconds of SIGTERM, SIGINT or SIGHUP, with the signal's exit code.

    The exception of a signal can be lost in a library that calls Python, and is delayed until a
    long library call returns. So a thread ends the process if it still runs ``GRACE`` seconds after
    the signal. The last line printed names the signal; further signals have no effect.
    """
    ended = Ended()
    quiet = contextlib.ExitStack()
    if not _is_main():
        yield ended
        return

    def heed(number: int, frame: FrameType | None) -> None:
        if ended.code is None:
            ended.code = 128 + number
            early.say(number)
            quiet.enter_context(_silenced())
            raise _make_exit(number)

    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    over = threading.Event()
    watch = threading.Thread(target=_end_late, args=(readable, over), name="signals", daemon=True)
    handlers = {number: signal.signal(number, heed) for number in _handled_signals()}
    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    watch.start()
    try:
        yield ended
    finally:
        signal.set_wakeup_fd(before)
        # The genjax command ends now.
        leaves = ended.code is not None and early.end in handlers.values()
        for number, handler in handlers.items():
            signal.signal(number, early.leave if leaves else handler)
        if not leaves:
            quiet.close()
        over.set()
        os.write(writable, bytes([OVER]))
        watch.join()
        os.close(writable)
        os.close(readable)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Discard what libraries write to standard error when interrupted, such as Rust panics."""
    try:
        before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # it is closed
        yield
        return
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _end_late(readable: int, over: threading.Event) -> None:
    while (number := os.read(readable, 1)[0]) != OVER:
        if number in ENDING:
            if not over.wait(GRACE):
                os._exit(128 + number)
            return


def _handled_signals() -> list[int]:
    """Return the signals that end a process; without SIGHUP if ``nohup`` ignores it."""
    return [
        number
        for number in ENDING
        if number in (signal.SIGTERM, signal.SIGINT)
        or signal.getsignal(number) is not signal.SIG_IGN
    ]


def _make_exit(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Signalled(128 + number)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
