"""Avoid tracebacks from standard streams that are closed, have another encoding, or lost their
reader.
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

ESCAPED = re.compile("[\udc80-\udcff]+")  # undecoded bytes in a Python text
BROKEN = 141  # exit code 128 + 13 (SIGPIPE), as a shell reports it


class Stream(io.TextIOWrapper):
    """Standard output or error. Once its reader has gone, further output is discarded.

    The first such write to standard output raises BrokenPipeError, so that a command which prints
    ends. On standard error it only sets ``is_broken``, so that a training run can save first; other
    errors there only lose the line.
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
        except UnicodeEncodeError:
            # An undecodable file name, half an emoji, or an accent on an ASCII terminal.
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
        os.dup2(nowhere, self.fileno())  # buffered output goes there, too
        os.close(nowhere)
        self.broken = isinstance(error, BrokenPipeError)
        if self._result and self.broken:
            raise error
        if self._result:
            raise UserError(
                f"standard output cannot be written: {error.strerror}", "stdout"
            ) from error


def in_utf8() -> None:
    """Restart in Python's UTF-8 mode if the locale is not UTF-8, which cannot open names with
    accents.
    """
    tried = os.environ.get("PYTHONUTF8") == "1"
    if sys.getfilesystemencoding() != "utf-8" and sys.executable and not tried:
        os.environ["PYTHONUTF8"] = "1"  # inherited by child processes
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def typed(text: str) -> str:
    """Decode a command-line text as UTF-8, including bytes that the locale could not decode (PEP
    383).

    Bytes that are not UTF-8 become U+FFFD.
    """
    found = ESCAPED.sub(lambda run: os.fsencode(run[0]).decode("utf-8", "replace"), text)
    return HALF.sub("\N{REPLACEMENT CHARACTER}", found)


def guard() -> None:
    """Connect closed standard streams to nowhere, and make the others tolerate a lost reader."""
    # Otherwise the next file opened gets the number of a closed stream, and libraries write their
    # messages into it.
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(nowhere)
    sys.stdout = Stream(sys.stdout, 1, result=True)
    sys.stderr = Stream(sys.stderr, 2, result=False)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def is_broken() -> bool:
    """Return whether the reader of a standard stream has gone."""
    return any(isinstance(stream, Stream) and stream.broken for stream in (sys.stdout, sys.stderr))


def flush(code: int) -> int:
    """Flush the standard streams at the end of a command; return its exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except UserError as error:
        with contextlib.suppress(OSError):
            print(f"genjax: {error}", file=sys.stderr)
        return code or 2
    return BROKEN if is_broken() and code == 0 else code
