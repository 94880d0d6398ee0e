"""Texts of chat templates in Jinja, rendered by a child process that has bounds."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genjax.data.chat import worker as chat_worker
from genjax.errors import UserError


class Job(NamedTuple):
    """One text to render.

    Attributes:
      messages: of ``role`` and ``content`` each.
      prompt: whether the header of an answer ends it (add_generation_prompt).
      marks: what is written before and after a ``{% generation %}`` block; None for nothing.
    """

    messages: Sequence[Mapping[str, str]]
    prompt: bool = False
    marks: tuple[str, str] | None = None


def render(
    source: str,
    names: Sequence[tuple[str, str]],
    date: str | None,
    jobs: Sequence[Job],
    file: str,
) -> list[str]:
    """The text of each job by a template.

    Args:
      source: the template.
      names: variables that it may read, such as ("bos_token", "<s>").
      date: of ``strftime_now``, in ISO 8601.
      jobs: what to render.
      file: where the template is from, for messages.

    Raises:
      UserError: the template is not valid, refuses the messages, does what the sandbox does not
        allow, or takes too much time, memory or room; its field is ``file``.
    """
    listed = [job._asdict() for job in jobs]
    request = {"source": source, "names": list(names), "date": date, "jobs": listed}
    found = _worker(os.getpid()).ask(json.dumps(request))
    if "texts" not in found:
        raise UserError(f"{file}: {found['error']}", file)
    texts: list[str] = found["texts"]
    return texts


class _Worker:
    """A child process, started when it is first needed and again after a template has ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, line: str) -> dict[str, Any]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._started()
            process = self._process
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            except (
                BaseException
            ):  # an interrupt: what would be read next is not an answer to the next
                process.kill()
                raise
            if answer.endswith("\n"):
                found: dict[str, Any] = json.loads(answer)
                return found
            self._process = None
            process.kill()
            code = process.wait()
        if code == -signal.SIGPROF:
            return {"error": f"it takes more than {chat_worker.SECONDS:g} s to render"}
        return {"error": f"the process that renders it ended with code {code}"}

    def _started(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", str(Path(chat_worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for this process alone
        )
        weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    """End a child process that nobody asks any more."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.kill()
    process.wait()


@functools.lru_cache(maxsize=1)
def _worker(pid: int) -> _Worker:
    """That of this process; a fork of it starts one of its own."""
    return _Worker()
