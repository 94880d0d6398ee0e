"""Handle signals before a command starts and after it ends, while Python imports modules and shuts
down.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType


def end_at_signals() -> None:
    """Make the ``genjax`` command end at once on a signal, without a traceback; other programs are
    unaffected.

    KeyboardInterrupt would not do: raised in an import callback or in garbage collection, it is
    lost.
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
    """Write at once, unbuffered, which signal ends the process."""
    if sys.stderr is not None:  # otherwise descriptor 2 may be another file
        with contextlib.suppress(OSError):
            os.write(
                2,
                f"genjax: ended by {signal.Signals(number).name}; what is done is kept\n".encode(),
            )


def end(number: int, frame: FrameType | None) -> None:
    """Handle a signal by ending the process at once."""
    say(number)
    leave(number, frame)


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a further signal, silently, by ending the process."""
    os._exit(128 + number)
