"""One thread uses the device: it steps text engines in turn and runs other jobs in between."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Engine(Protocol):
    """An engine that is stepped while it is busy."""

    @property
    def busy(self) -> bool: ...

    def step(self) -> None: ...

    def fail(self, error: Exception) -> None: ...


class Device:
    """A thread that runs engines and jobs, one at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._engines: list[Engine] = []
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)
        self._thread.start()

    def attach(self, engine: Engine) -> None:
        """Start stepping an engine."""
        with self._changed:
            self._engines.append(engine)
            self._changed.notify()

    def detach(self, engine: Engine) -> None:
        """Stop stepping an engine."""
        with self._changed:
            self._engines = [one for one in self._engines if one is not engine]

    def wake(self) -> None:
        """Wake the thread because an engine has work."""
        with self._changed:
            self._changed.notify()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job to run between two steps, and return its future."""
        future: Future[T] = Future()
        with self._changed:
            if self._ending:
                future.set_exception(RuntimeError("the server ends"))
                return future
            self._jobs.append((future, job))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """Return the number of jobs that have not started."""
        return len(self._jobs)

    @property
    def ending(self) -> bool:
        """Return whether the thread ends, so that nothing more is drawn."""
        return self._ending

    def close(self, patience: float | None = None) -> bool:
        """End the thread after its current work, and fail what waits for it; return whether it
        ended within ``patience`` seconds.
        """
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._ending or self._jobs or any(e.busy for e in self._engines)
                )
                if self._ending:
                    break
                engines = [engine for engine in self._engines if engine.busy]
                job = self._jobs.popleft() if self._jobs else None
            for engine in engines:
                try:
                    engine.step()
                except Exception as error:  # a failing engine must not stop the others
                    self._fail(engine, error)
            if job is not None:
                self._do(*job)
        while self._jobs:
            self._jobs.popleft()[0].cancel()
        for engine in self._engines:
            self._fail(engine, RuntimeError("the server ends"))

    def _fail(self, engine: Engine, error: Exception) -> None:
        """End an engine's rows with an error; do without an engine that cannot even do that."""
        try:
            engine.fail(error)
        except Exception as worse:
            traceback.print_exception(worse, file=sys.stderr)
            with self._changed:
                self._engines = [one for one in self._engines if one is not engine]

    def _do(self, future: Future[T], job: Callable[[], T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = job()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
