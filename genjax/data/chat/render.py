"""Render chat templates in Jinja in a child process with limits."""

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
      messages: messages, each with ``role`` and ``content``.
      prompt: whether the text ends with the header of an answer (add_generation_prompt).
      marks: texts written before and after a ``{% generation %}`` block; None for none.
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
    """Render each job with a template.

    Args:
      source: source of the template.
      names: variables that it may read, such as ("bos_token", "<s>").
      date: date that ``strftime_now`` returns, in ISO 8601.
      jobs: texts to render.
      file: file of the template, for messages.

    Raises:
      UserError: the template is invalid, refuses the messages, does something the sandbox forbids,
        or takes too much time, memory or output; the field is ``file``.
    """
    listed = [job._asdict() for job in jobs]
    request = {"source": source, "names": list(names), "date": date, "jobs": listed}
    found = _worker(os.getpid()).ask(json.dumps(request))
    if "texts" not in found:
        raise UserError(f"{file}: {found['error']}", file)
    texts: list[str] = found["texts"]
    return texts


class _Worker:
    """A child process, started when first needed and restarted after a template has ended it."""

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
            except BaseException:
                # After an interrupt the next line read would answer the wrong question.
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
            start_new_session=True,  # Ctrl-C should only reach the parent
        )
        weakref.finalize(self, _end, process)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    """End a child process that is no longer needed."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.kill()
    process.wait()


@functools.lru_cache(maxsize=1)
def _worker(pid: int) -> _Worker:
    """Return the child of this process; a forked process starts its own."""
    return _Worker()
