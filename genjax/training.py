"""Trains: sets up a run, then steps, evaluates and saves until the last step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from etils import epath

from genjax import config_files, parallel
from genjax.checks import Component
from genjax.data.dataset import Batch, Dataset
from genjax.errors import Diverged
from genjax.evaluation.ahead import Ahead
from genjax.evaluation.drawing import draw_finished, lower_draw
from genjax.evaluation.judge import EVALUATION, SAMPLES, Judge, default_split
from genjax.experiment import Experiment, find_runs
from genjax.family import State
from genjax.machine import disk
from genjax.machine.agreement import agree, agree_soon
from genjax.machine.target import list_forms
from genjax.runs import directory, lineage, writers
from genjax.runs.capacity import check_batch, check_step, check_training
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.checkpoint_files import newest_step
from genjax.runs.first_state import Start, examples, first_state
from genjax.runs.lease import Lease, describe_lease
from genjax.runs.meter import Clock, PackedMetrics, describe_pauses
from genjax.runs.run import Run, make_judge
from genjax.runs.screen import Status
from genjax.runs.setup import Setup, set_up
from genjax.runs.stop import Stop
from genjax.runs.summary import Alarms, Summary, make_summary
from genjax.runs.tracking import Tracking, track_run
from genjax.samplers.options import encode_options

NON_FINITE_LIMIT = 3
KEPT = "what was saved before is whole, and the same command resumes once there is room"


class Watch(Protocol):
    """Receives the batches that a family collects, such as rollouts."""

    def begin(self, setup: Setup) -> None:
        """Start, before the first step."""

    def take(self, step: int, batch: Batch) -> None:
        """Take the batch collected at ``step``; its arrays must not be changed."""

    def flush(self) -> None:
        """Store everything taken so far; a checkpoint is written next."""


def train(
    experiment: Experiment,
    run_dir: str | Path,
    *,
    max_minutes: float | None = None,
    source: Path | None = None,
    quiet: bool = False,
    tracking: Tracking = Tracking(),
    watch: Watch | None = None,
) -> Run:
    """Train, or resume from the newest checkpoint of ``run_dir``; return the run as ``load`` does.

    Prerequisite runs (which the experiment depends on, starts from or orders examples by) whose
    name is that of a config are trained first if they are missing or unfinished.

    Args:
      max_minutes: minutes after which to save and stop; the same call continues.
      source: file of the config, copied into the run directory.
      quiet: whether to hide progress.
      tracking: options of MLflow; prerequisite runs are tracked, too, under their own names.
      watch: receiver of the batches that the family collects.

    Raises:
      UserError: config, data or directory do not fit, another process trains in the directory, or
          the disk is full.
      Diverged: three consecutive steps are not finite.
      KeyboardInterrupt, SystemExit: after SIGINT, and after SIGTERM and SIGHUP, once all is saved.
    """
    deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    with prepare(experiment, run_dir, deadline, source, quiet, tracking) as (setup, lease):
        folder = setup.run_dir
        assert folder is not None, "a run is kept somewhere"
        with Stop(lease) as stop, Checkpoints(folder, experiment.keep) as checkpoints:
            state = run_loop(setup, checkpoints, stop, deadline, quiet, watch)
        finish(setup, int(state.step))
    stop.raise_pending()
    data, layout = setup.data, setup.layout
    return Run(setup.experiment, folder, int(state.step), state, data.spec, data.codec, layout)


@contextlib.contextmanager
def prepare(
    experiment: Experiment,
    run_dir: str | Path,
    deadline: float = math.inf,
    source: Path | None = None,
    quiet: bool = False,
    tracking: Tracking = Tracking(),
    data: Dataset | None = None,
) -> Iterator[tuple[Setup, Lease | None]]:
    """Hold a run directory, write what describes the run, and provide its setup for the loop.

    Args: those of ``train``, and
      deadline: time of ``time.monotonic`` at which to stop.
      data: opened data; None for the experiment's own.

    Raises:
      UserError: see ``train``.
    """
    layout = parallel.start(experiment.devices)
    folder = epath.Path(run_dir).expanduser()
    agree({**config_files.list_shared(experiment), "run_dir": str(folder)})
    check_batch(experiment, layout)
    needed = find_runs(experiment)
    with disk.explain_full_disk(KEPT, folder), _hold_lease(folder, layout) as lease:
        if newest_step(folder) is None:
            _train_prerequisites(needed, experiment.devices, deadline, quiet, tracking)
        claim = directory.check_claim(folder, experiment, source)
        setup = set_up(experiment, folder, data=data, layout=layout)
        agree({"data": setup.data.fingerprint})
        check_training(setup)
        claim.write()
        for part in setup.frozen if layout.is_main else ():
            part.keep(folder)
        parents = lineage.parents(folder, needed, experiment.start_from.best)
        directory.describe(folder, setup.data, layout, parents)
        if directory.load_others(folder) is None:
            directory.keep_others(folder, setup.others)
        with track_run(tracking, folder, experiment.steps, experiment.keep, layout.is_main):
            yield setup, lease


def finish(setup: Setup, step: int) -> None:
    """Draw the losses of a run that stopped or ended at ``step``, and note what it has read."""
    assert setup.run_dir is not None, "a run is kept somewhere"
    if setup.layout.is_main:
        writers.plot_losses(setup.run_dir)
        for part in setup.frozen:
            part.finish(setup.run_dir, step)


def _train_prerequisites(
    needed: Mapping[str, str],
    devices: parallel.Devices,
    deadline: float,
    quiet: bool,
    tracking: Tracking,
) -> None:
    """Train prerequisite runs that are named after configs and unfinished, on the same devices.

    Raises:
      SystemExit: the time ran out before they were finished; the same command resumes.
    """
    for run_dir in dict.fromkeys(needed.values()):
        found = config_files.load_run_config(run_dir)
        if found is None:
            continue
        stored, (base, source) = directory.load_experiment(epath.Path(run_dir)), found
        wanted = dataclasses.replace(base if stored is None else stored, devices=devices)
        step = newest_step(epath.Path(run_dir).expanduser())
        if step is not None and step >= wanted.steps:
            continue
        if jax.process_index() == 0 and not quiet:
            stands = "is not there" if step is None else f"stands at step {step} of {wanted.steps}"
            print(f"{run_dir} {stands}: it is trained first", file=sys.stderr, flush=True)
        minutes = None if deadline == math.inf else max(0.0, deadline - time.monotonic()) / 60
        file = source if stored is None else None  # a started run has its own config
        unnamed = dataclasses.replace(tracking, model=None)
        made = train(
            wanted, run_dir, max_minutes=minutes, source=file, quiet=quiet, tracking=unnamed
        )
        if made.step < wanted.steps:
            raise SystemExit(0)


def run_loop(
    setup: Setup,
    checkpoints: Checkpoints,
    stop: Stop,
    deadline: float,
    quiet: bool,
    watch: Watch | None = None,
) -> State:
    """Take the steps from the newest checkpoint to the last, and return the final state.

    Raises:
      Diverged: three consecutive steps are not finite.
    """
    start = first_state(setup, checkpoints)
    steps, run_dir = setup.experiment.steps, setup.run_dir
    assert run_dir is not None, "a run is kept somewhere"
    judge = make_judge(setup) if start.step < steps else None
    rows = writers.read_rows(run_dir / "metrics.jsonl")
    summary = make_summary(setup, [row for row in rows if row["step"] <= start.step])
    with writers.Writers(run_dir, start.step, steps, setup.layout.is_main, quiet) as out:
        out.say_all(_greeting(start.step, steps, run_dir, bool(rows)), start.remarks)
        if judge is None:
            out.report(*summary.conclude())
            return start.state
        with examples(setup, start.state, start.position, steps) as (source, remarks):
            out.say_all(remarks)
            if watch is not None:
                watch.begin(setup)
            with Ahead() as ahead:
                loop = Loop(setup, start, judge, checkpoints, out, summary, ahead, watch)
                while loop.step < steps:
                    loop.advance(next(source))
                    stopping = loop.is_stopping(stop, deadline)
                    loop.observe_and_save(stopping, stop)
                    if stopping and loop.is_saved:
                        out.say(
                            f"stopped at step {loop.step} of {steps}; the same command continues"
                        )
                        break
            loop.close()
        checkpoints.wait()
    return loop.state


def _greeting(step: int, steps: int, run_dir: epath.Path, has_rows: bool) -> tuple[str, ...]:
    if step >= steps:
        return (f"{run_dir} is finished: step {step} of {steps}",)
    if step:
        return (f"resuming from step {step}",)
    return ("there is no checkpoint yet: starting again",) if has_rows else ()


def _lower_sampling(setup: Setup, key: jax.Array) -> Any:
    """Trace the drawing of the samples of a run, with the key of their first chunk."""
    family: Component = setup.family.wrapped
    shapes = setup.layout.eval_shapes(setup.family.eval_state, setup.target)
    codec = setup.data.codec
    options = encode_options(family.sampler, codec)
    return lower_draw(setup.layout, family, shapes, key, codec.shown, options)


class Loop:
    """The state of the training loop, with its pending metrics, and the actions due at each
    step.
    """

    def __init__(
        self,
        setup: Setup,
        start: Start,
        judge: Judge,
        checkpoints: Checkpoints,
        out: writers.Writers,
        summary: Summary,
        ahead: Ahead,
        watch: Watch | None = None,
    ) -> None:
        self.state, self.step, self.meter = start.state, start.step, start.meter
        self._setup, self._judge, self._checkpoints, self._out = setup, judge, checkpoints, out
        self._ahead, self._watch = ahead, watch
        self._summary, self._alarms = summary, Alarms(setup.experiment.steps)
        self._is_first = True
        self._split = default_split(setup.data.splits) if setup.experiment.every.evaluate else ""
        self._saved = start.step or None
        self._clock = Clock(start.step)
        self._pending: tuple[int, PackedMetrics] | None = None

    def advance(self, batch: Batch) -> None:
        """Dispatch the next steps; meanwhile read the metrics of the previous ones."""
        setup, collect = self._setup, self._setup.family.collect
        if collect is not None:
            batch = setup.layout.place(collect(self.state, batch, self.state.step_key))
            if self._watch is not None:
                self._watch.take(self.step, batch)
        skipped = self._clock.skip_compilation() if self._is_first else contextlib.nullcontext()
        with list_forms() as forms, skipped:
            if self._is_first:
                setup.run_step.lower(self.state, batch)  # traced before the others take the time
                self._start_ahead()
                check_step(setup, self.state, batch)
            self.state, metrics = setup.run_step(self.state, batch)
        if self._is_first and setup.platform != "cpu":
            self._out.say_all(tuple(forms))
        self._is_first = False
        several = setup.experiment.steps_per_dispatch > 1
        self.step += len(batch["mask"]) if several else 1
        self._read()
        self._pending = self.step, metrics

    def _start_ahead(self) -> None:
        """Compile evaluation and sampling in threads, while the step is compiled and taken."""
        setup, every = self._setup, self._setup.experiment.every
        first = functools.partial(jax.random.fold_in, self.state.key)
        if every.evaluate:
            key = jax.random.fold_in(first(EVALUATION), 0)
            self._ahead.start("evaluate", functools.partial(self._judge.lower, setup.target, key))
        if every.sample and setup.family.wrapped.no_samples is None:
            key = jax.random.fold_in(first(SAMPLES), 0)
            self._ahead.start("sample", functools.partial(_lower_sampling, setup, key))

    def is_stopping(self, stop: Stop, deadline: float) -> bool:
        """Return whether all processes stop here. They must agree on the step, which costs a round
        trip.
        """
        wanted = stop.wanted or time.monotonic() > deadline
        asks = jax.process_count() == 1 or self._is_due(self._setup.experiment.every.log or 1)
        stopping = asks and parallel.any_process(wanted)
        if stopping:
            stop.check()
        return stopping

    def observe_and_save(self, stopping: bool, stop: Stop) -> None:
        """Evaluate, draw samples and save a checkpoint, each if it is due."""
        every = self._setup.experiment.every
        evaluating, sampling = self._is_due(every.evaluate), self._is_due(every.sample)
        sampling = sampling and self._setup.family.wrapped.no_samples is None
        saving = (
            stopping or self._is_due(every.checkpoint) or self.step == self._setup.experiment.steps
        )
        if not (evaluating or sampling or saving):
            return
        self._read()
        scores = None
        if evaluating:
            with self._clock.pause("evaluate"):
                scores = self._evaluate()
        if sampling:
            with self._clock.pause("sample"):
                self._sample()
        if saving:
            with self._clock.pause("checkpoint"):
                self._save(scores, stop)

    @property
    def is_saved(self) -> bool:
        """Whether there is a checkpoint of this step; a step that was not finite has none."""
        return self._saved == self.step

    def _read(self) -> None:
        """Fetch the metrics of the last dispatch, while the device already works on the next."""
        if self._pending is None:
            return
        (last, packed), self._pending = self._pending, None
        pairs = np.asarray(packed.pairs, np.float64).reshape(-1, len(packed.names), 2)
        self._check_finite(last, self.meter.add(packed.names, pairs))
        if not self._is_due(self._setup.experiment.every.log, last):
            return
        numbers, speed, batch_size = (
            self.meter.take_means(),
            self._clock.measure_speed(last),
            self._setup.experiment.batch_size,
        )
        family = self._setup.family
        for remark in family.warnings(numbers):
            self._out.say(f"step {last}: {remark}")
        self._warn(last, "train", family.find_collapse(numbers))
        rates = {"time/steps_per_second": speed, "time/examples_per_second": speed * batch_size}
        self._out.write_row(last, "train", numbers | rates)
        shown = {name: numbers[name] for name in ("loss", *family.key_numbers) if name in numbers}
        left = self._clock.estimate_seconds_left(last, self._setup.experiment.steps)
        self._out.show_progress(Status(last, shown, speed, speed * batch_size, left))

    def _warn(self, step: int, split: str, found: Mapping[str, str]) -> None:
        for sentence in self._alarms.check(step, split, found):
            self._out.say(f"step {step}: {sentence}")

    def close(self) -> None:
        """Report the results of the run."""
        self._read()
        self._out.end_progress()
        taken, seconds = self._clock.measure_total(self.step)
        self._out.report(*self._summary.conclude(taken, seconds))
        every = dataclasses.asdict(self._setup.experiment.every)
        self._out.report(*describe_pauses(self._clock.paused, every, seconds, self.step))
        self._out.report(*(f"at the end, too: {line}" for line in self._alarms.standing.values()))

    def _check_finite(self, last: int, streaks: list[int]) -> None:
        if max(streaks) < NON_FINITE_LIMIT:
            return
        third = last - len(streaks) + 1 + streaks.index(NON_FINITE_LIMIT)
        good = (
            f"the last good checkpoint is step {self._saved}"
            if self._saved
            else "there is no checkpoint"
        )
        first, run_dir = third - NON_FINITE_LIMIT + 1, self._setup.run_dir
        raise Diverged(f"steps {first} to {third} were not finite; {good} of {run_dir}")

    def _evaluate(self) -> Mapping[str, float]:
        self._ahead.wait("evaluate")
        found = self._judge(self.state, self._split)
        scores, best = dict(found.numbers), self._setup.experiment.keep.best
        self._out.write_row(self.step, "eval", scores)
        self._out.report(self._summary.take(self.step, self._setup.experiment.steps, scores))
        self._warn(self.step, "eval", self._setup.family.evaluated_as.find_collapse(scores))
        for name, picture in found.pictures.items():
            self._out.write_picture(self.step, name, picture)
        self._out.say_all(found.remarks)
        if self.step == self._setup.experiment.steps:  # earlier, the model may just be untrained
            self._out.say_all(tuple(f"caution: {caution}" for caution in found.cautions))
        if best not in (None, *scores):
            self._out.say(f"keep.best {best!r} is none of {', '.join(scores)}: no best is kept")
        return scores

    def _sample(self) -> None:
        setup, codec = self._setup, self._setup.data.codec
        family: Component = setup.family.wrapped
        options = encode_options(family.sampler, codec)
        key = jax.random.fold_in(self.state.key, SAMPLES)
        self._ahead.wait("sample")
        state = setup.family.eval_state(self.state)
        samples = draw_finished(
            setup.layout, family, state, key, codec.shown, options, codec, strict=False
        )
        if setup.layout.is_main and setup.run_dir is not None:
            path = codec.write(samples, setup.run_dir / "samples" / f"{self.step:08d}")
            self._out.show_picture(epath.Path(path).with_suffix(".png"))

    def _save(self, scores: Mapping[str, float] | None, stop: Stop) -> None:
        """Save, unless the step was not finite and more steps follow: it was skipped, but the state
        counts it.
        """
        experiment = self._setup.experiment
        if self.meter.non_finite and self.step < experiment.steps:
            self._out.say(f"step {self.step} was not finite: no checkpoint is written")
            return
        stop.check()
        self._out.flush()
        if self._watch is not None:
            self._watch.flush()
        position = self.step * experiment.batch_size
        progress = {"step": self.step, "position": position, "meter": self.meter.to_json()}
        self._checkpoints.save(self.step, self.state, progress, scores)
        self._saved = self.step

    def _is_due(self, interval: int, step: int | None = None) -> bool:
        step = self.step if step is None else step
        return interval > 0 and (step % interval == 0 or step == self._setup.experiment.steps)


@contextlib.contextmanager
def _hold_lease(run_dir: epath.Path, layout: parallel.Layout) -> Iterator[Lease | None]:
    """Hold the lease on the run directory in the main process; others get None.

    Raises:
      UserError: another run holds it.
      SystemExit: on all other processes, if the main one was refused.
    """
    with contextlib.ExitStack() as stack:
        lease, refused = None, None
        try:
            lease = stack.enter_context(Lease(run_dir)) if layout.is_main else None
        except Exception as error:
            refused = error
        failed = parallel.any_process(refused is not None)
        if refused is not None:
            raise refused
        if failed:
            raise SystemExit(2)
        # All processes write to one directory, not to one of the same name on each machine.
        agree_soon(lambda: {"run_dir": describe_lease(run_dir)})
        yield lease
