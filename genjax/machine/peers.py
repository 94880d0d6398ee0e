"""End a process whose peers are gone with a single line.

JAX aborts a process if process 0, which runs its coordination service, is gone: with twenty lines
from another thread, and without a hook to call first. So whatever libraries write to standard error
goes through a pipe, which is read here line by line.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading

from genjax.machine import streams

LINE = "another process of this run has ended: start all of them again"
# What JAX's client prints before it aborts.
FATAL = (
    b"Polled an error from coordination service",
    b"JAX distributed service detected fatal errors",
)
# Printed at the same time by other threads; shown only if the process continues.
BEFORE = (b"preemption_sync_manager.cc", b"Additional GRPC error information", b":UNKNOWN:Error")


class Watch:
    """Reads what libraries write to standard error, until ``close``.

    Python's own ``sys.stderr``, if it is a ``Stream``, still writes to the original target, so that
    a terminal stays a terminal.
    """

    def __init__(self) -> None:
        self._real = os.dup(2)
        readable, writable = os.pipe()
        os.dup2(writable, 2)
        os.close(writable)
        self._before = sys.stderr  # kept alive, as deleting it would close its target
        if isinstance(self._before, streams.Stream):
            self._file = open(self._real, "w", encoding=self._before.encoding, closefd=False)  # noqa: SIM115
            sys.stderr = streams.Stream(self._file, self._real, result=False)
            sys.stderr.broken = self._before.broken
        if hasattr(signal, "SIGABRT") and os.name == "posix":
            # abort() calls the handler with the signal's number, 6: the process sleeps that many
            # seconds, in which the thread reads the messages; then abort() ends the process.
            library = ctypes.CDLL(None)
            library.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
            library.signal.restype = ctypes.c_void_p
            library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
        self._thread = threading.Thread(
            target=self._copy, args=(readable,), name="peers", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Show what has been written so far, and restore standard error."""
        if self._thread.is_alive():
            os.dup2(self._real, 2)  # closes the last writing end of the pipe
            self._thread.join(1.0)  # a child process may still have the pipe open

    def _copy(self, readable: int) -> None:
        held: list[bytes] = []
        with open(readable, "rb") as lines:
            for line in lines:
                if any(sign in line for sign in FATAL):
                    os.write(self._real, f"genjax: {LINE}\n".encode())
                    os._exit(2)
                if any(sign in line for sign in BEFORE):
                    held.append(line)
                    continue
                self._show(line)
        for line in held:
            self._show(line)

    def _show(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            os.write(self._real, line)
