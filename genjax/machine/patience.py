"""Retry reads after errors that may pass: a busy or remote disk does not mean a damaged file."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from genjax.errors import UserError

T = TypeVar("T")
WAITS = (0.1, 0.5, 2.0)  # seconds before each further try
NAMES = (
    "EIO",
    "EAGAIN",
    "ETIMEDOUT",
    "ESTALE",
    "EINTR",
    "EACCES",
    "EPERM",
    "EBUSY",
    "EMFILE",
    "ENFILE",
    "ENOMEM",
    "ENOBUFS",
    "ENOLCK",
    "EDEADLK",
    "EREMOTEIO",
    "ECONNRESET",
    "ECONNREFUSED",
    "ECONNABORTED",
    "ENETDOWN",
    "ENETUNREACH",
    "ENETRESET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENOTCONN",
    "ENXIO",
    "ENODEV",
)
NUMBERS = frozenset(getattr(errno, name) for name in NAMES if hasattr(errno, name))
# C++ libraries raise a ValueError whose text contains the system's words or a bucket's status.
WORDS = (
    *(os.strerror(number) for number in sorted(NUMBERS)),
    *(
        "UNAVAILABLE:",
        "DEADLINE_EXCEEDED:",
        "RESOURCE_EXHAUSTED:",
        "PERMISSION_DENIED:",
        "UNAUTHENTICATED:",
    ),
)


def may_pass(error: BaseException) -> bool:
    """Return whether an error, or its cause, comes from the disk or network, not from the content
    of the file.
    """
    return any(
        isinstance(cause, ConnectionError | PermissionError | TimeoutError)
        or (isinstance(cause, OSError) and cause.errno in NUMBERS)
        or (isinstance(cause, OSError | ValueError) and any(word in str(cause) for word in WORDS))
        for cause in _causes(error)
    )


def retry(read: Callable[[], T], what: str, waits: tuple[float, ...] = WAITS) -> T:
    """Return ``read()``, retrying after each of ``waits`` if its error may pass.

    Args:
      read: function without side effects.
      what: path that it reads, for the message.
      waits: waiting times in seconds.

    Raises:
      UserError: the error did not pass; the field is ``what``.
      Exception: any other error of ``read``, immediately.
    """
    for wait in (*waits, None):
        try:
            return read()
        except Exception as error:
            if not may_pass(error):
                raise
            if wait is None:
                reason = str(error).strip().partition("\n")[0][:200]
                raise UserError(
                    f"{what} cannot be read at the moment ({reason}); nothing was changed: try the "
                    "same command again",
                    field=what,
                ) from error
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all its causes."""
    open_, seen = [error], set()
    while open_:
        cause = open_.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        open_ += filter(None, (cause.__cause__, cause.__context__))
        if isinstance(cause, BaseExceptionGroup):
            open_ += cause.exceptions
