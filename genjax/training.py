"""The loop: restore or init, step, "is it due?", log, save, stop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from genjax import experiment as experiments
from genjax import parallel
from genjax.data.dataset import Batch, Dataset, Split
from genjax.data.stream import Order, batches
from genjax.evaluation.judge import default_split, sampled
from genjax.experiment import Experiment
from genjax.family import State, Trained
from genjax.machine import disk
from genjax.runs import directory as records
from genjax.runs import lineage, writers
from genjax.runs import run as runs
from genjax.runs.capacity import check_batch, check_memory, check_step
from genjax.runs.checkpoint import Checkpoints, newest_step
from genjax.runs.lease import Lease
from genjax.runs.meter import Meter, PackedMetrics
from genjax.runs.ordering import enriched, ordered
from genjax.runs.run import Run
from genjax.runs.stop import Stop
from genjax.runs.tracking import Tracking, tracked

AUGMENT = 2**31 - 1  # folded into the key of a step for its augmentation
NON_FINITE_LIMIT = 3
KEPT = "what was saved before is whole, and the same command goes on once there is room"


class Diverged(Exception):
    """Several steps in a row were not finite."""


def make_step(experiment: Experiment) -> Any:
    """``step(state, batch, axis) -> state, PackedMetrics``: the family's train step behind the augmentations."""
    rule = runs.update_rule(experiment)

    def step(state: State, batch: Any, axis: str | None) -> tuple[State, PackedMetrics]:
        key = jax.random.fold_in(state.step_key, AUGMENT)
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        for number, augment in enumerate(experiment.augment):
            batch = augment(jax.random.fold_in(key, number), batch)
        state, metrics = experiment.family.train_step(state, batch, optimizer=rule, axis=axis)
        return state, PackedMetrics.of(metrics)

    return step


def feed(
    experiment: Experiment, layout: parallel.Layout, split: Split, position: int, order: Order | None = None
) -> Generator[Batch]:
    """Batches on their way to the devices, from the data's ``position`` on, in the split's own order by default."""
    host: Iterator[Batch] = batches(
        split,
        seed=experiment.seed,
        position=position,
        batch_size=experiment.batch_size,
        rows=layout.rows(experiment.batch_size),
        several=experiment.steps_per_dispatch,
        workers=experiment.workers,
        order=order,
    )
    if experiment.curriculum is not None and experiment.curriculum.changes_batches:
        host = _by_curriculum(experiment, host, position // experiment.batch_size)
    return parallel.prefetch(host, functools.partial(layout.place, stacked=experiment.steps_per_dispatch > 1))


def _by_curriculum(experiment: Experiment, host: Iterator[Batch], step: int) -> Generator[Batch]:
    """The batches as the curriculum wants them at their steps, from ``step`` on."""
    several = experiment.steps_per_dispatch
    with contextlib.closing(host):  # type: ignore[type-var]
        for first, batch in zip(itertools.count(step, several), host, strict=False):
            if several == 1:
                yield experiment.curriculum(first, batch)
            else:  # stacked, one stage a dispatch
                each = [experiment.curriculum(first + i, {n: x[i] for n, x in batch.items()}) for i in range(several)]
                yield {name: np.stack([one[name] for one in each]) for name in each[0]}


def _check_stages(experiment: Experiment, data: Dataset, state: State) -> None:
    """Trace the first step of every stage of a curriculum, so that no run stops where a stage begins.

    Raises:
      UserError: the data or the family cannot follow the curriculum.
    """
    if experiment.curriculum is None or not experiment.curriculum.changes_batches:
        return
    rows = np.arange(experiment.batch_size) % len(data.splits["train"])
    batch = data.splits["train"].batch(rows) | {"mask": np.ones(len(rows), np.float32)}
    step = make_step(experiment)
    for start in experiment.curriculum.starts:
        jax.eval_shape(lambda state, batch: step(state, batch, None), state, experiment.curriculum(start, batch))


def train(
    experiment: Experiment,
    run_dir: str | Path,
    *,
    max_minutes: float | None = None,
    source: Path | None = None,
    quiet: bool = False,
    tracking: Tracking = Tracking(),
) -> Run:
    """Train, or go on where the newest checkpoint of ``run_dir`` stands; returns the run as ``load`` does.

    Runs that the experiment stands on, starts from or orders its examples by and that are named as a config is are
    trained first, where they are missing or not at their end.

    Args:
      max_minutes: save and stop after so long; the same call goes on.
      source: the config's file, copied into the run directory.
      quiet: show no progress.
      tracking: with MLflow; those that are trained first are tracked, too, as models of their own names.

    Raises:
      UserError: for a config, data or directory that does not fit, one that another process trains in, or a full disk.
      Diverged: after three steps in a row that are not finite.
      KeyboardInterrupt, SystemExit: after SIGINT, and after SIGTERM and SIGHUP, once all is saved.
    """
    deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    layout = parallel.start(experiment.devices)
    check_batch(experiment, layout)
    folder = epath.Path(run_dir).expanduser()
    with disk.watched(KEPT, folder), _leased(folder, layout) as lease:
        if newest_step(folder) is None:
            _make_first(experiment, deadline, quiet, tracking)
        records.claim(folder, experiment, source)
        data = runs.opened(experiment, None if newest_step(folder) is None else folder)
        records.describe(folder, data, layout, lineage.parents(folder, experiment))
        experiment, others = runs.resolved(experiment, data.spec, folder)
        runs.check_tokens(others, data)
        experiment = dataclasses.replace(experiment, family=experiment.family.knowing(data.codec))
        if records.kept_others(folder) is None:
            records.keep_others(folder, others)
        with tracked(tracking, folder, experiment, layout.is_main):
            with Stop(lease) as stop, Checkpoints(folder, experiment.keep) as checkpoints:
                state = run_loop(experiment, others, folder, layout, data, checkpoints, stop, deadline, quiet)
            if layout.is_main:
                writers.plot_losses(folder)
        stop.raise_remembered()
    return Run(experiment, folder, int(state.step), state, data.spec, data.codec, layout)


def _make_first(experiment: Experiment, deadline: float, quiet: bool, tracking: Tracking) -> None:
    """Train the runs that another begins with, as far as they are named after configs and not at their end.

    Raises:
      SystemExit: the time is over before they are made; the same command goes on.
    """
    score = None if experiment.curriculum is None else experiment.curriculum.score
    heard = () if score is None else score.runs
    for run_dir in dict.fromkeys(filter(None, (experiment.start_from.run, *experiment.family.runs.values(), *heard))):
        found = experiments.config_of(run_dir)
        if found is None:
            continue
        stored, (base, source) = records.stored_experiment(epath.Path(run_dir)), found
        wanted = dataclasses.replace(base if stored is None else stored, devices=experiment.devices)
        step = newest_step(epath.Path(run_dir).expanduser())
        if step is not None and step >= wanted.steps:
            continue
        if jax.process_index() == 0 and not quiet:
            stands = "is not there" if step is None else f"stands at step {step} of {wanted.steps}"
            print(f"{run_dir} {stands}: it is trained first", file=sys.stderr, flush=True)
        minutes = None if deadline == math.inf else max(0.0, deadline - time.monotonic()) / 60
        file = source if stored is None else None  # a run that has begun has a config of its own
        told = dataclasses.replace(tracking, model=None)
        made = train(wanted, run_dir, max_minutes=minutes, source=file, quiet=quiet, tracking=told)
        if made.step < wanted.steps:
            raise SystemExit(0)


def run_loop(
    experiment: Experiment,
    others: Mapping[str, Trained],
    run_dir: epath.Path,
    layout: parallel.Layout,
    data: Any,
    checkpoints: Checkpoints,
    stop: Stop,
    deadline: float,
    quiet: bool,
) -> State:
    """All that happens between the opened data and the last checkpoint; returns the final state."""
    family, every, steps = experiment.family, experiment.every, experiment.steps
    plain = family.plain
    target = layout.abstract(runs.initial_state(experiment, data.spec, others))
    stacked = experiment.steps_per_dispatch > 1
    run_step = layout.compile_step(make_step(experiment), target, stacked)
    check_memory(experiment, data.spec, target, layout, run_step)
    experiment.optimizer.check(target.params)
    layout.check_rules(target.params)
    _check_stages(experiment, data, target)
    restored = checkpoints.restore(target)
    remarks: tuple[str, ...] = ()
    if restored is None:
        frozen = checkpoints.frozen(target) or runs.borrowed(others, layout, target.frozen)
        state = layout.init(runs.initial_state(experiment, data.spec)).replace(frozen=frozen)
        state = family.begun(state)
        state, remarks = runs.begun(state, experiment, data, layout)
        restored = state, {"step": 0, "position": 0, "meter": None}
    state, progress = restored
    step, meter = progress["step"], Meter(progress["meter"])

    split = default_split(data.splits) if every.evaluate else ""
    evaluates = every.evaluate and step < steps
    asked = tuple(e for e in experiment.evaluators if e.while_training) if evaluates else ()
    judge = runs.Judge.of(experiment, layout, data, asked, runs.needed(asked, layout))
    saved = step if step else None
    rows_before = bool(writers.read_rows(run_dir / "metrics.jsonl"))

    examples, order = data.splits["train"], None
    if step < steps:
        size = experiment.batch_size
        order, lines = ordered(experiment.curriculum, data, layout, size, run_dir, goes_on=step > 0)
        examples, remarks = enriched(family, state, examples, layout, size), remarks + lines
    source = feed(experiment, layout, examples, progress["position"], order)
    with contextlib.closing(source), writers.Writers(run_dir, step, steps, layout.is_main, quiet) as out:
        if step >= steps:
            out.say(f"{run_dir} is finished: step {step} of {steps}")
        elif step:
            out.say(f"going on from step {step}")
        elif rows_before:
            out.say("there is no checkpoint yet: beginning anew")
        for remark in remarks:
            out.say(remark)
        clock = Clock(step)
        pending: tuple[int, PackedMetrics] | None = None
        first = True

        def read() -> None:
            """Fetch the metrics of the last dispatch; the device already works on the next, if there is one."""
            nonlocal pending
            if pending is None:
                return
            (last, packed), pending = pending, None
            pairs = np.asarray(packed.pairs, np.float64).reshape(-1, len(packed.names), 2)
            streaks = meter.add(packed.names, pairs)
            if max(streaks) >= NON_FINITE_LIMIT:
                third = last - len(streaks) + 1 + streaks.index(NON_FINITE_LIMIT)
                good = f"the last good checkpoint is step {saved}" if saved else "there is no checkpoint"
                raise Diverged(f"steps {third - NON_FINITE_LIMIT + 1} to {third} were not finite; {good} of {run_dir}")
            if _due(last, every.log, steps):
                numbers = meter.means()
                speed = clock.speed(last)
                for remark in family.remarks(numbers):
                    out.say(f"step {last}: {remark}")
                rate = {"time/steps_per_second": speed, "time/examples_per_second": speed * experiment.batch_size}
                out.row(last, "train", numbers | rate)
                out.progress(last, numbers["loss"], speed * experiment.batch_size, speed)

        while step < steps:
            batch = next(source)
            if family.collect is not None:
                batch = layout.place(family.collect(state, batch, state.step_key))
            if first:
                check_step(experiment, layout, run_step, state, batch)
                first = False
            state, metrics = run_step(state, batch)
            step += experiment.steps_per_dispatch
            told = stop.wanted or time.monotonic() > deadline
            # Several processes have to stop at the same step, and asking each other costs a round trip.
            stopping = (jax.process_count() == 1 or _due(step, every.log or 1, steps)) and parallel.agree(told)
            if stopping:
                stop.check()
            read()
            pending = step, metrics
            evaluating = _due(step, every.evaluate, steps)
            sampling = _due(step, every.sample, steps) and plain.no_samples is None
            saving = _due(step, every.checkpoint, steps) or step == steps or stopping
            if not (evaluating or sampling or saving):
                continue
            read()
            scores = None
            with clock.paused():
                if evaluating:
                    found = judge(state, split)
                    scores = dict(found.numbers)
                    out.row(step, "eval", scores)
                    for name, picture in found.pictures.items():
                        out.picture(step, name, picture)
                    for remark in found.remarks:
                        out.say(remark)
                    if experiment.keep.best not in (None, *scores):
                        out.say(f"keep.best {experiment.keep.best!r} is none of {', '.join(scores)}: no best is kept")
                if sampling:
                    key = jax.random.fold_in(state.key, runs.SAMPLES)
                    options = plain.prepared(plain.sampler, data.codec)
                    samples = sampled(layout, plain, family.judged(state), key, data.codec.shown, options)
                    if layout.is_main:
                        samples = plain.finished(samples, options, data.codec)
                        data.codec.write(samples, run_dir / "samples" / f"{step:08d}")
                # A bad step was skipped, but its state is saved only where no better step follows.
                if saving and meter.non_finite and step < steps:
                    out.say(f"step {step} was not finite: no checkpoint is written")
                    continue
                if saving:
                    stop.check()
                    out.flush()
                    checkpoints.save(step, state, _progress(experiment, step, meter), scores)
                    saved = step
            if stopping:
                out.say(f"stopped at step {step} of {steps}; the same command goes on")
                break
        checkpoints.wait()
    return state


def _progress(experiment: Experiment, step: int, meter: Meter) -> dict[str, Any]:
    """What the loop needs besides the state; ``position`` counts the examples of all processes together."""
    return {"step": step, "position": step * experiment.batch_size, "meter": meter.stored()}


class Clock:
    """Steps a second between two rows, without what evaluation, samples and checkpoints took."""

    def __init__(self, step: int) -> None:
        self._step, self._start = step, time.monotonic()

    def speed(self, step: int) -> float:
        now = time.monotonic()
        speed = (step - self._step) / max(now - self._start, 1e-9)
        self._step, self._start = step, now
        return speed

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self._start += time.monotonic() - begin


def _due(step: int, interval: int, last: int) -> bool:
    return interval > 0 and (step % interval == 0 or step == last)


@contextlib.contextmanager
def _leased(run_dir: epath.Path, layout: parallel.Layout) -> Iterator[Lease | None]:
    """The lease on the run directory, which the main process holds for all; the others get None.

    Raises:
      UserError: another run holds it.
      SystemExit: on the processes that are not the main one, where that has been refused.
    """
    with contextlib.ExitStack() as stack:
        lease, refused = None, None
        try:
            lease = stack.enter_context(Lease(run_dir)) if layout.is_main else None
        except Exception as error:
            refused = error
        failed = parallel.agree(refused is not None)
        if refused is not None:
            raise refused
        if failed:
            raise SystemExit(2)
        yield lease
