"""Standard streams that are closed, or whose reader has left, end in no traceback."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

from genjax.errors import UserError

BROKEN = 141  # the exit code: 128 and SIGPIPE's 13, as a shell shows of a process that ended by it


class Stream(io.TextIOWrapper):
    """Standard output or error. Once its reader has left, what is still written is thrown away.

    Of standard output the first such write raises BrokenPipeError, so that a command which prints ends. One to
    standard error only sets ``broken``, so that a training run can save first; its other faults cost nothing but
    the line.
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
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # what waits in buffers goes there, too
        os.close(nowhere)
        self.broken = isinstance(error, BrokenPipeError)
        if self._result and self.broken:
            raise error
        if self._result:
            raise UserError(f"standard output cannot be written: {error.strerror}", "stdout") from error


def guard() -> None:
    """Open closed standard streams to nowhere, and let the others bear that their reader leaves."""
    # Otherwise the next file to be opened gets the number of a closed one, and what libraries say is written into it.
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(nowhere)
    sys.stdout = Stream(sys.stdout, 1, result=True)
    sys.stderr = Stream(sys.stderr, 2, result=False)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def broken() -> bool:
    """Whether the reader of a standard stream has left."""
    return any(isinstance(stream, Stream) and stream.broken for stream in (sys.stdout, sys.stderr))


def flushed(code: int) -> int:
    """Write what waits in the buffers at the end of a command; returns its exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except UserError as error:
        with contextlib.suppress(OSError):
            print(f"genjax: {error}", file=sys.stderr)
        return code or 2
    return BROKEN if broken() and code == 0 else code
