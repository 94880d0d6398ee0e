"""Run the processes of a run until all have ended; one that fails ends the others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

from genjax.errors import UserError
from genjax.launch.hosts import Command
from genjax.runs.stop import Stop

OWN, SAVING = 5.0, 10.0  # seconds to end after another has failed, and after SIGTERM
PAUSE = 0.05


def run_together(commands: Sequence[Command]) -> int:
    """Run commands at the same time, and return the exit code of the first that failed, or 0.

    The first one prints as if it were alone; lines of the others have their labels. A signal is
    passed on as SIGTERM, and the processes save.
    """
    processes: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []
    with Stop() as stop:
        try:
            for i, command in enumerate(commands):
                processes.append(_start(command, alone=i == 0))
                for stream in (processes[-1].stdout, processes[-1].stderr):
                    if stream is not None:
                        readers.append(_copy(stream, command.label))
            code = _wait(processes, [command.label for command in commands], stop)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
    for reader in readers:
        reader.join(1.0)
    stop.raise_pending()
    return code


def _start(command: Command, alone: bool) -> subprocess.Popen[str]:
    pipe = None if alone else subprocess.PIPE
    try:
        # A session of its own: Ctrl-C comes once, from here.
        return subprocess.Popen(
            command.words,
            env={**os.environ, **command.variables},
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise UserError(f"{command.words[0]} cannot be started: {error.strerror}") from error


def _copy(stream: IO[str], label: str) -> threading.Thread:
    def copy() -> None:
        with stream:
            for line in stream:
                print(f"[{label}] {line.rstrip()}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _wait(processes: Sequence[subprocess.Popen[str]], labels: Sequence[str], stop: Stop) -> int:
    """Wait for all; end the others if one fails, or all after a signal."""
    code, limit, asked = 0, float("inf"), False
    while running := [process for process in processes if process.poll() is None]:
        if not (code or stop.wanted):
            code = _find_failure(processes, labels)
            limit = time.monotonic() + OWN if code else limit
        if not asked and (stop.wanted or time.monotonic() > limit):
            asked = True
            limit = time.monotonic() + SAVING if code else float("inf")
            for process in running:
                process.terminate()
        elif asked and time.monotonic() > limit:
            break  # the caller kills them
        time.sleep(PAUSE)
    return code or _find_failure(processes, labels if not stop.wanted else ())


def _find_failure(processes: Sequence[subprocess.Popen[str]], labels: Sequence[str]) -> int:
    """Return the exit code of a process that failed, or 0; print which one if labels are given."""
    failed = {i: p.returncode for i, p in enumerate(processes) if p.returncode}
    if not failed:
        return 0
    # One that was killed is the reason why the others failed, and 2 is what these end with.
    first = min(failed, key=lambda i: (failed[i] > 0, failed[i] == 2))
    code = failed[first]
    if labels and code != 2:  # else it has explained itself
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        print(f"genjax: process {labels[first]} {how}", file=sys.stderr, flush=True)
    return 128 - code if code < 0 else code
