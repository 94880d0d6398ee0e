"""Signals before a command starts and after it has ended: while Python imports what it needs
and takes it down.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType


def end_at_signals() -> None:
    """Have the ``genjax`` command end at once by a signal, without a traceback; other programs are
    left alone.

    KeyboardInterrupt would not do: raised in a callback of an import or of the garbage collector it
    is lost.
    """
    given = sys.orig_argv
    module = (
        sys.argv[:1] == ["-m"] and "genjax" in given[given.index("-m") + 1 :][:1]
        if "-m" in given
        else False
    )
    if not (module or os.path.basename(sys.argv[0] if sys.argv else "") == "genjax"):
        return
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and (
            name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN
        ):
            signal.signal(number, end)


def say(number: int) -> None:
    """Write at once, whatever is under way, which signal ends the process."""
    if sys.stderr is not None:  # otherwise 2 may be the number of a file
        with contextlib.suppress(OSError):
            os.write(
                2,
                f"genjax: ended by {signal.Signals(number).name}; what is done is kept\n".encode(),
            )


def end(number: int, frame: FrameType | None) -> None:
    """Handle a signal: the process ends at once."""
    say(number)
    leave(number, frame)


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal after one that has been said already."""
    os._exit(128 + number)
