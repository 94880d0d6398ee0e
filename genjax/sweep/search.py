"""Search for the best values with Optuna: each trial is a combination, trained with all seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.runs.stop import Stop
from genjax.runs.writers import read_rows
from genjax.sweep.directory import Entry, Sweep, add_points, claim_runs, write_failure
from genjax.sweep.grid import SEED, Point, digest, make_point, write_value
from genjax.sweep.ranges import Range
from genjax.sweep.sequence import describe_end, say, train_in_child
from genjax.sweep.table import Metric

NAME = "study.log"  # in the directory of the sweep
WARM_UP = 4  # trials before any is ended early
FAILED = "failed"

Space = Mapping[str, Range | Sequence[Any]]
Trial = Any
Study = Any


@dataclass(frozen=True)
class Search:
    """A search.

    Attributes:
      experiment: experiment of the config.
      source: file of the config.
      space: range or list of values of each field, by dotted name.
      seeds: seeds of each combination.
      metric: figure to optimise.
    """

    experiment: Experiment
    source: Path
    space: Space
    seeds: Sequence[int]
    metric: Metric

    def make_points(self, trial: Trial) -> list[Point]:
        """Return the combination that a trial suggests, with each seed."""
        values = {name: self._suggest(trial, name) for name in self.space}
        return [make_point(self.experiment, {**values, SEED: seed}) for seed in self.seeds]

    def _suggest(self, trial: Trial, name: str) -> Any:
        space = self.space[name]
        if isinstance(space, Range):
            return space.suggest(trial, name)
        words = [write_value(value) for value in space]
        return space[words.index(trial.suggest_categorical(name, words))]

    def describe(self) -> dict[str, Any]:
        """Return what must not change between calls, as JSON."""
        space = {
            name: str(one) if isinstance(one, Range) else [write_value(value) for value in one]
            for name, one in self.space.items()
        }
        return {"space": space, "seeds": list(self.seeds), "metric": self.metric.name}


def check_search(search: Search) -> None:
    """Refuse a search that cannot start; nothing is written.

    Raises:
      UserError: Optuna is missing, nothing is varied, or the ends of a range are refused.
    """
    _import_optuna()
    if not any(isinstance(one, Range) or len(one) > 1 for one in search.space.values()):
        raise UserError("search needs a field to vary, such as 1e-4..1e-2:log, or a list", "search")
    first = {
        name: one.low if isinstance(one, Range) else one[0] for name, one in search.space.items()
    }
    for name, one in search.space.items():
        for value in (one.low, one.high) if isinstance(one, Range) else one:
            make_point(search.experiment, {**first, name: value, SEED: search.seeds[0]})


def run_search(sweep: Sweep, search: Search, trials: int) -> Sweep:
    """Train until the study has so many trials; return the sweep with their runs.

    A trial that a signal or a crash has ended continues first. Trials worse than the median at the
    same step end early.

    Raises:
      UserError: the directory holds the study of another space.
      KeyboardInterrupt, SystemExit: after a signal, once the current run is saved.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    claim_runs(sweep, {}, search.source)  # an empty sweep first, so that this is one
    study = _open_study(sweep, search)
    with Stop() as stop:
        while (done := _count_done(study)) < trials and not stop.wanted:
            sweep = _run_trial(sweep, search, study, stop, f"trial {done + 1}/{trials}")
    stop.raise_pending()
    return sweep


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        cure = "pip install 'genjax-train[search]'"
        raise UserError(f"search needs the package {error.name}: {cure}", "search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open_study(sweep: Sweep, search: Search) -> Study:
    """Open the study in the directory of the sweep; trials that did not end are tried again."""
    optuna = _import_optuna()
    journal = optuna.storages.journal.JournalFileBackend(str(sweep.folder / NAME))
    storage = optuna.storages.JournalStorage(journal)
    study = optuna.create_study(
        storage=storage,
        study_name="sweep",
        direction="maximize" if search.metric.larger_is_better else "minimize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP),
    )
    wanted, before = search.describe(), study.user_attrs.get("search")
    if before is None:
        study.set_user_attr("search", wanted)
    elif before != wanted:
        changed = [
            f"{name}: {before.get(name)} -> {wanted[name]}"
            for name in wanted
            if before.get(name) != wanted[name]
        ]
        raise UserError(
            f"search: {sweep.folder} holds the study of another search ({'; '.join(changed)}): "
            "give another directory (--out)",
            "search",
        )
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    # Otherwise a study that continues would draw the same numbers again.
    seed = (search.experiment.seed + len(study.trials)) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    return study


def _count_done(study: Study) -> int:
    """Return the number of trials that have ended by themselves."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)


def _run_trial(sweep: Sweep, search: Search, study: Study, stop: Stop, title: str) -> Sweep:
    """Train the runs of one trial, and tell the study the mean of their figures."""
    optuna = _import_optuna()
    trial = study.ask()
    points = search.make_points(trial)
    sweep, new = add_points(sweep, points, tuple(search.space))
    claim_runs(sweep, new, search.source)
    marks = [digest(point.experiment) for point in points]
    entries = [next(entry for entry in sweep.runs if entry.digest == mark) for mark in marks]
    figures = []
    for number, entry in enumerate(entries):
        say(f"{title}: {entry.name}")
        judge = _Judge(trial, sweep, entry, search.metric) if number == 0 else None
        if sweep.read_state(entry) in ("waiting", "started"):
            code = train_in_child(sweep, entry, stop, judge or (lambda: False))
            if stop.wanted:
                return sweep
            if judge is not None and judge.is_pruned:
                write_failure(sweep.find_run(entry), code, judge.reason, pruned=True)
            say(f"{title}: {describe_end(sweep, entry, code)}")
        figure = _read_figure(sweep, entry, search.metric)
        if sweep.read_state(entry) != "finished" or figure is None or not math.isfinite(figure):
            trial.set_user_attr(FAILED, sweep.read_failure(entry) or "no figure")
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return sweep
        figures.append(figure)
    study.tell(trial, float(np.mean(figures)))
    return sweep


def _read_figure(sweep: Sweep, entry: Entry, metric: Metric) -> float | None:
    return metric.find(read_rows(epath.Path(sweep.find_run(entry)) / "metrics.jsonl"))


class _Judge:
    """Reports the figures of a run as it trains, and says when it is not worth its time.

    Args:
      trial: trial of the run.
      sweep: the sweep.
      entry: the run.
      metric: figure to optimise.
    """

    def __init__(self, trial: Trial, sweep: Sweep, entry: Entry, metric: Metric) -> None:
        self._trial, self._metric = trial, metric
        self._path = sweep.find_run(entry) / "metrics.jsonl"
        self._size, self._step = 0, -1
        self.is_pruned, self.reason = False, ""

    def __call__(self) -> bool:
        size = self._path.stat().st_size if self._path.exists() else 0
        if size == self._size or self.is_pruned:
            return self.is_pruned
        self._size = size
        for row in read_rows(epath.Path(self._path)):
            value = self._metric.find([row])
            if row["step"] <= self._step or value is None or not math.isfinite(value):
                continue
            self._step = row["step"]
            self._trial.report(value, self._step)
            if self._trial.should_prune():
                self.is_pruned = True
                self.reason = (
                    f"pruned at step {self._step}: {self._metric.name} {value:.5g} is worse than "
                    "the median of the others"
                )
                break
        return self.is_pruned
