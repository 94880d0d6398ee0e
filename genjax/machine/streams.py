"""Standard streams that are closed, of another encoding, or whose reader has left, end in no
traceback.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from typing import TextIO

from genjax.errors import UserError
from genjax.serial.json_text import HALF

ESCAPED = re.compile("[\udc80-\udcff]+")  # bytes in a text, as Python has them
BROKEN = 141  # the exit code: 128 and SIGPIPE's 13, as a shell shows of a process that ended by it


class Stream(io.TextIOWrapper):
    """Standard output or error. Once its reader has left, what is still written is thrown away.

    Of standard output the first such write raises BrokenPipeError, so that a command which prints
    ends. One to standard error only sets ``is_broken``, so that a training run can save first; its
    other faults cost nothing but the line.
    """

    def __init__(self, before: TextIO | None, number: int, result: bool) -> None:
        if before is None:
            super().__init__(open(number, "wb", closefd=False), "utf-8", "replace")  # noqa: SIM115
        else:
            super().__init__(before.buffer, before.encoding, before.errors, line_buffering=True)
        self.broken = False
        self._result = result

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except (
            UnicodeEncodeError
        ):  # a name of a file, half an emoji, or an accent where the terminal is ASCII
            super().write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
            return len(text)
        except OSError as error:
            self._handle_error(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._handle_error(error)

    def _handle_error(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # what waits in buffers goes there, too
        os.close(nowhere)
        self.broken = isinstance(error, BrokenPipeError)
        if self._result and self.broken:
            raise error
        if self._result:
            raise UserError(
                f"standard output cannot be written: {error.strerror}", "stdout"
            ) from error


def in_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale is not UTF-8: no name with an accent
    can be opened there.
    """
    tried = os.environ.get("PYTHONUTF8") == "1"
    if sys.getfilesystemencoding() != "utf-8" and sys.executable and not tried:
        os.environ["PYTHONUTF8"] = "1"  # of the processes that this one starts, too
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def typed(text: str) -> str:
    """A text of the command line, where bytes that the locale does not know represent themselves
    (PEP 383), as UTF-8.

    What is not UTF-8 either becomes U+FFFD.
    """
    found = ESCAPED.sub(lambda run: os.fsencode(run[0]).decode("utf-8", "replace"), text)
    return HALF.sub("\N{REPLACEMENT CHARACTER}", found)


def guard() -> None:
    """Open closed standard streams to nowhere, and let the others bear that their reader leaves."""
    # Otherwise the next file to be opened gets the number of a closed one, and what libraries say
    # is written into it.
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(nowhere)
    sys.stdout = Stream(sys.stdout, 1, result=True)
    sys.stderr = Stream(sys.stderr, 2, result=False)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def is_broken() -> bool:
    """Whether the reader of a standard stream has left."""
    return any(isinstance(stream, Stream) and stream.broken for stream in (sys.stdout, sys.stderr))


def flush(code: int) -> int:
    """Write what waits in the buffers at the end of a command; returns its exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except UserError as error:
        with contextlib.suppress(OSError):
            print(f"genjax: {error}", file=sys.stderr)
        return code or 2
    return BROKEN if is_broken() and code == 0 else code
