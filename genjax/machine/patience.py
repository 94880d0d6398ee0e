"""Read errors that may pass: a busy or distant disk is not an evidence that a file is damaged."""

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
# Libraries in C++ raise a ValueError that has the system's words, or a bucket's status, in its
# text.
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
    """Whether an error, or what caused it, tells of the disk or the network and not of the
    file's content.
    """
    return any(
        isinstance(cause, ConnectionError | PermissionError | TimeoutError)
        or (isinstance(cause, OSError) and cause.errno in NUMBERS)
        or (isinstance(cause, OSError | ValueError) and any(word in str(cause) for word in WORDS))
        for cause in _causes(error)
    )


def retry(read: Callable[[], T], what: str, waits: tuple[float, ...] = WAITS) -> T:
    """Return ``read()``, which is tried again after each of ``waits`` while its error may pass.

    Args:
      read: a function that changes nothing.
      what: the path that it reads, for the message.
      waits: seconds.

    Raises:
      UserError: the error did not pass; its field is ``what``.
      Exception: any other error of ``read``, at once.
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
    """The error and all that it was raised from."""
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
