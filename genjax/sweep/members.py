"""A run that trains together with others: its own data, files and metrics; the steps are shared."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from genjax.data.dataset import Batch, Dataset
from genjax.evaluation.ahead import Ahead
from genjax.experiment import Experiment
from genjax.family import State
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.first_state import examples, first_state
from genjax.runs.meter import PackedMetrics
from genjax.runs.run import make_judge
from genjax.runs.screen import Status
from genjax.runs.setup import Setup
from genjax.runs.stop import Stop
from genjax.runs.summary import make_summary
from genjax.runs.writers import Writers, read_rows
from genjax.training import Loop, finish, prepare


class Files(Writers):
    """Writes the files of a run, and prints only what a person must know, after its name.

    Args:
      name: name of the run.
      setup: its setup.
      step: step from which it continues.
    """

    def __init__(self, name: str, setup: Setup, step: int) -> None:
        assert setup.run_dir is not None, "a run is kept somewhere"
        super().__init__(setup.run_dir, step, setup.experiment.steps, quiet=True)
        self._name = name
        self.status: Status | None = None

    def say(self, line: str) -> None:
        print(f"{self._name}: {line}", file=sys.stderr, flush=True)

    def show_progress(self, status: Status) -> None:
        self.status = status


class Follower(Loop):
    """The loop of a run whose steps are taken elsewhere."""

    def receive(self, last: int, metrics: PackedMetrics) -> None:
        """Take the metrics of the dispatch up to step ``last``, on the host.

        Raises:
          Diverged: three consecutive steps were not finite.
        """
        self._pending = last, metrics
        self._read()

    def restart_clock(self) -> None:
        """Measure speed from now on, without the compilation of the first dispatch."""
        with self._clock.skip_compilation():
            pass

    def share_judge(self, other: Follower) -> None:
        """Evaluate with the compiled program of another run, whose family is the same."""
        self._judge = dataclasses.replace(self._judge, compiled=other._judge.compiled)


@dataclass
class Member:
    """A run of a group.

    Attributes:
      name: its name.
      setup: its setup.
      loop: its loop.
      files: what it writes.
      source: its batches.
      guard: checks that no other process has taken over its directory.
    """

    name: str
    setup: Setup
    loop: Follower
    files: Files
    source: Iterator[Batch]
    guard: Stop

    def observe(self, step: int, state: State, stopping: bool) -> None:
        """Evaluate, draw samples and save a checkpoint, each if it is due at ``step``."""
        self.loop.step, self.loop.state = step, state
        self.loop.observe_and_save(stopping, self.guard)


@contextlib.contextmanager
def open_member(
    name: str, experiment: Experiment, run_dir: Path, data: Callable[[], Dataset | None]
) -> Iterator[Member]:
    """Open a run as ``train`` does, up to its first step, and close it.

    Args:
      name: its name.
      experiment: its experiment.
      run_dir: its directory.
      data: returns the opened data; None for the experiment's own.

    Raises:
      UserError: see ``train``.
    """
    with prepare(experiment, run_dir, quiet=True, data=data()) as (setup, lease):
        folder, steps = setup.run_dir, setup.experiment.steps
        assert folder is not None, "a run is kept somewhere"
        with Checkpoints(folder, experiment.keep) as checkpoints:
            start = first_state(setup, checkpoints)
            rows = [r for r in read_rows(folder / "metrics.jsonl") if r["step"] <= start.step]
            files, summary = Files(name, setup, start.step), make_summary(setup, rows)
            with files, examples(setup, start.state, start.position, steps) as (source, remarks):
                files.say_all(start.remarks, remarks)
                judge = make_judge(setup)
                loop = Follower(setup, start, judge, checkpoints, files, summary, Ahead())
                yield Member(name, setup, loop, files, source, Stop(lease))
            checkpoints.wait()
        finish(setup, loop.step)
