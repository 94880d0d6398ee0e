"""Tiny runs that several tests share: trained once a session, behind a lock, and only read."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainedRuns:
    """The shared runs below one folder of the session."""

    folder: Path

    def once(self, name: str, train: Callable[[Path], object]) -> Path:
        """Return the run directory of that name, which ``train`` makes where it is not there
        yet.
        """
        self.folder.mkdir(exist_ok=True, parents=True)
        run_dir, done = self.folder / name, self.folder / f"{name}.done"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                train(run_dir)
                done.touch()
        return run_dir
