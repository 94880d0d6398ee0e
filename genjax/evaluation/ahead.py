"""Compile what a run evaluates and samples with in threads, while it takes its first steps."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Ahead:
    """Programs that are compiled before they are needed, each in a thread.

    What JAX has compiled once it finds again, so the caller just runs its function after ``wait``.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2, "compile")
        self._started: dict[str, Future[Any]] = {}

    def start(self, name: str, lower: Callable[[], Any]) -> None:
        """Trace and compile in a thread what ``lower`` returns, a ``jax.stages.Lowered``."""
        context = contextvars.copy_context()
        self._started[name] = self._pool.submit(context.run, lambda: lower().compile())

    def wait(self, name: str) -> None:
        """Wait until a program is compiled, if it was started.

        An error is not raised here: the caller compiles again, and meets it in its own place.
        """
        if (started := self._started.pop(name, None)) is not None:
            started.exception()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what has not been started; nobody waits for the rest."""
        self._pool.shutdown(wait=False, cancel_futures=True)
