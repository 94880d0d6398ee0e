"""Train the runs of a sweep one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import jax

from genjax.errors import Diverged, UserError
from genjax.runs.screen import format_time
from genjax.runs.stop import Stop
from genjax.sweep.directory import (
    LOGS,
    STOPPED,
    Entry,
    Sweep,
    clear_failure,
    is_held,
    write_failure,
)
from genjax.training import train

POLL = 0.2  # seconds between looks at a process
Watch = Callable[[], bool]


def leave_devices() -> None:
    """Keep this process off accelerators, which only one process at a time can use: its children
    train.
    """
    jax.config.update("jax_platforms", "cpu")


def train_task(sweep: Sweep, number: int) -> None:
    """Train a run by its number in this process, and record if it fails.

    Raises:
      UserError: there is no such run, or it is refused.
      Diverged: it diverged.
    """
    if not 0 <= number < len(sweep.runs):
        last = len(sweep.runs) - 1
        raise UserError(f"task must be a run from 0 to {last}, got {number}", "task")
    run_dir = sweep.find_run(sweep.runs[number])
    try:
        clear_failure(run_dir)
        train(sweep.load_experiment(sweep.runs[number]), run_dir)
    except Exception as error:
        if not run_dir.is_dir() or (isinstance(error, UserError) and is_held(run_dir, error)):
            raise
        code = 2 if isinstance(error, UserError) else 3 if isinstance(error, Diverged) else 1
        kind = f"{type(error).__name__}: " if code == 1 else ""
        write_failure(run_dir, code, f"{kind}{error}")
        raise


def train_all(sweep: Sweep, entries: Sequence[Entry]) -> None:
    """Train runs in sequence; one that fails does not stop the others.

    Raises:
      KeyboardInterrupt, SystemExit: after a signal, once the current run is saved.
    """
    with Stop() as stop:
        for number, entry in enumerate(entries, 1):
            say(f"[{number}/{len(entries)}] {entry.name}")
            begin = time.monotonic()
            code = train_in_child(sweep, entry, stop)
            if stop.wanted:
                break
            seconds = format_time(time.monotonic() - begin)
            say(f"[{number}/{len(entries)}] {describe_end(sweep, entry, code)} in {seconds}")
    stop.raise_pending()


def describe_end(sweep: Sweep, entry: Entry, code: int) -> str:
    """Say in words how the process of a run ended."""
    reason = sweep.read_failure(entry)
    if reason:
        return f"failed: {reason}"
    return "finished" if code == 0 else "stopped"


def say(line: str) -> None:
    """Print a line about the sweep."""
    print(f"sweep: {line}", file=sys.stderr, flush=True)


def train_in_child(sweep: Sweep, entry: Entry, stop: Stop, is_enough: Watch = lambda: False) -> int:
    """Train a run in a child process, and return its exit code. What it prints is also kept.

    Args:
      sweep: the sweep.
      entry: the run.
      stop: signals of this process, which are passed on: the child saves and ends.
      is_enough: whether the child should save and end.
    """
    number = [other.name for other in sweep.runs].index(entry.name)
    command = [sys.executable, "-m", "genjax", "sweep", str(sweep.folder), "--task", str(number)]
    path = sweep.folder / LOGS / f"{entry.name}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as log:
        # In a session of its own, so that Ctrl-C comes once, from here.
        child = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        assert child.stderr is not None
        reader = threading.Thread(target=_copy, args=(child.stderr, log), daemon=True)
        reader.start()
        try:
            code = _wait(child, stop, is_enough)
        except BaseException:
            child.kill()
            child.wait()
            raise
        reader.join()
    run_dir = sweep.find_run(entry)
    # A refused run (2) has recorded why, unless another process trains it.
    recorded = code in (0, 2, *STOPPED) or sweep.read_failure(entry)
    if not recorded and run_dir.is_dir():
        write_failure(run_dir, code, _explain(code, path))
    return code


def _wait(child: subprocess.Popen[bytes], stop: Stop, is_enough: Watch) -> int:
    passed = False
    while True:
        try:
            return child.wait(POLL)
        except subprocess.TimeoutExpired:
            if not passed and (stop.wanted or is_enough()):
                passed = True
                child.terminate()


def _copy(source: IO[bytes], log: IO[bytes]) -> None:
    """Copy the lines of a process to the screen and to a file."""
    for line in source:
        log.write(line)
        log.flush()
        sys.stderr.write(line.decode("utf-8", "replace"))
        sys.stderr.flush()


def _explain(code: int, log: Path) -> str:
    if code < 0:
        return f"it was killed (signal {-code}); is there enough memory?"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"exit code {code}: {last}"
