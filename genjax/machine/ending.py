"""End commands soon after a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from genjax.errors import Signalled
from genjax.machine import early

GRACE = 3.0  # seconds in which a command may clean up
OVER = 0  # no signal
ENDING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


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
    if not is_main_thread():
        yield ended
        return

    def heed(number: int, frame: FrameType | None) -> None:
        if ended.code is None:
            ended.code = 128 + number
            early.say(number)
            quiet.enter_context(_silenced())
            raise make_exit(number)

    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    over = threading.Event()
    watch = threading.Thread(target=_end_late, args=(readable, over), name="signals", daemon=True)
    handlers = {number: signal.signal(number, heed) for number in handled_signals()}
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


def handled_signals() -> list[int]:
    """Return the signals that end a process; without SIGHUP if ``nohup`` ignores it."""
    return [
        number
        for number in ENDING
        if number in (signal.SIGTERM, signal.SIGINT)
        or signal.getsignal(number) is not signal.SIG_IGN
    ]


def make_exit(number: int) -> BaseException:
    """Return what a signal raises."""
    return KeyboardInterrupt() if number == signal.SIGINT else Signalled(128 + number)


def is_main_thread() -> bool:
    """Return whether this thread handles signals."""
    return threading.current_thread() is threading.main_thread()
