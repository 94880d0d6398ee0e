"""Slow work is done in threads, whose results return to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")
LARGE = 2_000  # longest input in characters that is processed without a thread


async def in_thread(size: int, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call a function, in a thread if its input of ``size`` characters is large."""
    if size <= LARGE:
        return function(*args, **options)
    return await apart(function, *args, **options)


async def apart(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call a function in a thread of its own, for which nobody waits when the server ends."""
    future: Future[T] = Future()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = function(*args, **options)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name=function.__name__, daemon=True).start()
    return await asyncio.wrap_future(future)


class Mailbox:
    """Brings calls of another thread to the event loop that is running; calls that come together
    wake the loop once.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: deque[Callable[[], None]] = deque()
        self._due = False

    def post(self, call: Callable[[], None]) -> None:
        """Call a function on the event loop; callable from any thread."""
        self._calls.append(call)
        if not self._due:
            self._due = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._due = False  # before the calls are taken: later ones wake the loop again
        while self._calls:
            self._calls.popleft()()
