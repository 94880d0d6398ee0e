"""Spread work over child processes, for functions that hold Python's lock."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, TypeVar

from genjax.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # items of each child that are on their way
SERVE = "from genjax.machine.children import serve; serve()"


class Unable(Exception):
    """A child cannot load the function, such as one of a script."""


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    function: Callable[[T], R], items: Iterable[T], count: int | None = None
) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item, in order, computed by child processes.

    A child is a fresh Python, which imports only what the function needs: no state of this process
    is copied, and a script needs no ``if __name__ == "__main__"``. At most ``AHEAD`` items of each
    child are in memory. Children end with this process, however it ends.

    Args:
      function: picklable function. If a child cannot load it, all is computed in this process.
      items: picklable items, in any number.
      count: number of children; None for one per core.

    Raises:
      Exception: what the function raises.
      UserError: a child was killed, as by a lack of memory.
    """
    count = count_cores() if count is None else count
    try:
        with _start(function, count) as free:
            yield from _in_order(free, items, count)
    except Unable:
        yield from map(function, items)


def _in_order(free: queue.Queue[_Child], items: Iterable[T], count: int) -> Iterator[Any]:
    """Yield the results in order, with a bounded number on their way."""

    def ask(item: T) -> Any:
        child = free.get()
        try:
            return child.ask(item)
        finally:
            free.put(child)

    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(count, "children") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(ask, item))
                if len(waiting) >= AHEAD * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _start(function: Callable[[T], R], count: int) -> Iterator[queue.Queue[_Child]]:
    """Start children that have loaded the function, and end them.

    Raises:
      Unable: the function cannot be sent, or a child cannot load it.
    """
    try:
        content = pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise Unable(str(error)) from error
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(contextlib.closing(_Child())) for _ in range(count)]
        free: queue.Queue[_Child] = queue.Queue()
        for child in children:
            child.send(content)
        for child in children:
            child.receive()
            free.put(child)
        yield free


class _Child:
    """A child process that answers one pickled item at a time."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def ask(self, item: Any) -> Any:
        self.send(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
        return self.receive()

    def send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        try:
            _write(self._process.stdin, content)
        except OSError:
            raise self._explain_end() from None

    def receive(self) -> Any:
        assert self._process.stdout is not None
        content = _read(self._process.stdout)
        if content is None:
            raise self._explain_end()
        found, error = pickle.loads(content)
        if error is not None:
            raise error
        return found

    def _explain_end(self) -> UserError:
        code = self._process.wait()
        why = "it was killed; is there enough memory?" if code < 0 else f"its exit code is {code}"
        return UserError(f"a helper process ended before its work was done: {why}")

    def close(self) -> None:
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve() -> None:
    """Answer a parent process: the function first, then an item at a time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's matter
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the function prints must not mix with answers
    content = _read(sys.stdin.buffer)
    if content is None:
        return
    try:
        function = pickle.loads(content)
    except Exception as error:
        _write(answers, pickle.dumps((None, Unable(str(error)))))
        return
    _write(answers, pickle.dumps((None, None)))
    while (content := _read(sys.stdin.buffer)) is not None:
        answer: tuple[Any, Exception | None]
        try:
            answer = function(pickle.loads(content)), None
        except Exception as error:
            answer = None, error
        try:
            _write(answers, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
        except BrokenPipeError:
            return


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(len(content).to_bytes(8, "big"))
    file.write(content)
    file.flush()


def _read(file: IO[bytes]) -> bytes | None:
    """Read what ``_write`` wrote; None at the end."""
    size = int.from_bytes(file.read(8), "big")
    content = file.read(size)
    return content if size and len(content) == size else None
