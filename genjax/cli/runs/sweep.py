"""``genjax sweep``: train a config with lists of values, and compare the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import tyro

from genjax import checks
from genjax.checks import MAX_SEED
from genjax.cli.parsing import parse
from genjax.config_files import load_config
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.sweep.array import write_array
from genjax.sweep.directory import (
    Sweep,
    add_points,
    claim_runs,
    find_pending,
    is_sweep,
    open_sweep,
    read_sweep,
)
from genjax.sweep.grid import SEED, choose_seeds, make_points, read_space, read_values
from genjax.sweep.ranges import Range
from genjax.sweep.search import Search, check_search, run_search
from genjax.sweep.sequence import leave_devices, train_all, train_task
from genjax.sweep.table import CSV, choose_metric, make_table, print_table, read_keep, write_table
from genjax.sweep.values import read_lists, split_options
from genjax.sweep.vmapped import plan_vmapped


@checks.frozen
class StoredOptions:
    """Continue a sweep by its directory, or look at it.

    Attributes:
      task: number of the one run to train, in this process, as an array job does.
      metric: figure to compare by; by default the one that the config keeps its best checkpoint by.
      larger_is_better: whether larger values of the metric are better; none for as the config says.
      list: print the runs and their state, and train nothing.
      table: print the table of what is finished, and train nothing.
      retry: try failed runs again.
      vmapped: train all runs together, which may differ in seed and in numbers of the step.
      at_once: most runs trained together with vmapped; none for as many as the memory holds.
      array: write a job script for SLURM with a task for each run, and train nothing.
    """

    task: int | None = None
    metric: str | None = None
    larger_is_better: bool | None = None
    list: bool = False
    table: bool = False
    retry: bool = False
    vmapped: bool = False
    at_once: int | None = None
    array: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "task")
        checks.at_least(self, 1, "at_once")
        chosen = [n for n in ("list", "table", "array", "vmapped") if getattr(self, n)]
        chosen += ["task"] if self.task is not None else []
        if len(chosen) > 1:
            raise UserError(f"{chosen[0]} and {chosen[1]} do not go together", chosen[1])
        if self.at_once is not None and not self.vmapped:
            raise UserError("at_once needs --vmapped", "at_once")


@checks.frozen
class SweepOptions:
    """Train a config with lists of values: each option of a field takes several, such as ``a,b,c``.

    Attributes:
      experiment: fields of the config.
      stored: options of any sweep.
      seeds: number of seeds for each combination, from the config's on.
      out: directory of the sweep; sweeps/NAME by default.
      max_runs: most runs that the grid may have.
      search: number of combinations to try with Optuna, from lists and from ranges such as
        1e-5..1e-2:log; 0 trains the whole grid of lists.
      tiny: use the small form of the config, for a first look.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    stored: Annotated[StoredOptions, tyro.conf.arg(name="")] = StoredOptions()
    seeds: int = 1
    out: str | None = None
    max_runs: int = 100
    search: int = 0
    tiny: bool = False

    def __post_init__(self) -> None:
        checks.between(self, 1, MAX_SEED, "seeds")
        checks.at_least(self, 1, "max_runs")
        checks.at_least(self, 0, "search")
        both = [n for n in ("vmapped", "array") if getattr(self.stored, n)]
        if self.search and both:
            raise UserError(f"search and {both[0]} do not go together", "search")
        if self.out is not None:
            checks.some(self, "out")
            if "://" in self.out:
                raise UserError(f"out must be a folder of this machine, got {self.out!r}", "out")


OWN = sorted(
    {field.name for kind in (StoredOptions, SweepOptions) for field in dataclasses.fields(kind)}
    - {"experiment", "stored"}
)


def sweep_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax sweep CONFIG``, or ``genjax sweep DIRECTORY`` to continue a sweep."""
    if is_sweep(target):
        sweep = read_sweep(Path(target))
        options = parse(StoredOptions(), f"sweep {target}", arguments)
        return _run_stored(sweep, options)
    experiment, source = load_config(target, "--tiny" in arguments)
    mine, others = split_options(arguments, OWN)
    if {"-h", "--help"} & set(arguments):
        mine = ["--help"]
    chosen = parse(SweepOptions(experiment), f"sweep {target}", mine)
    options = chosen.stored
    if options.task is not None:
        raise UserError("task needs the directory of a sweep: genjax sweep DIRECTORY", "task")
    lists = read_lists(experiment, others, OWN)
    name = f"{source.stem}_tiny" if chosen.tiny else source.stem
    folder = Path(chosen.out or f"sweeps/{name}").expanduser()
    if chosen.search and not (options.list or options.table):
        return _search(folder, name, source, chosen, lists)
    points = make_points(experiment, read_values(experiment, lists), chosen.seeds, chosen.max_runs)
    sweep, new = add_points(open_sweep(folder, name, experiment), points)
    if options.list or options.table:
        return _show(sweep, options)
    _train(sweep, options, dict(new), source)


def _search(
    folder: Path, name: str, source: Path, chosen: SweepOptions, lists: Mapping[str, Any]
) -> None:
    """Search with Optuna, and show the table of all trials."""
    experiment, options = chosen.experiment, chosen.stored
    if chosen.search * chosen.seeds > chosen.max_runs:
        raise UserError(
            f"max_runs must be at least the number of runs, {chosen.search * chosen.seeds:,}, got "
            f"{chosen.max_runs:,}: try fewer combinations, or raise --max-runs",
            "max_runs",
        )
    space = read_space(experiment, lists)
    given = space.pop(SEED, None)
    if isinstance(given, Range):
        raise UserError("seed must be a number or a list in a search, not a range", SEED)
    seeds = choose_seeds(experiment, given, chosen.seeds)
    fixed = {name: one for name, one in space.items() if not isinstance(one, Range)}
    evaluates = any(fixed.get("every.evaluate", [experiment.every.evaluate]))
    metric = choose_metric(experiment.keep, evaluates, options.metric, options.larger_is_better)
    search = Search(experiment, source, space, seeds, metric)
    check_search(search)
    leave_devices()
    sweep = run_search(open_sweep(folder, name, experiment), search, chosen.search)
    _show(sweep, options)


def _run_stored(sweep: Sweep, options: StoredOptions) -> None:
    """Continue a sweep, or show it."""
    if options.list or options.table:
        return _show(sweep, options)
    if options.task is not None:
        return train_task(sweep, options.task)
    _train(sweep, options)


def _train(
    sweep: Sweep,
    options: StoredOptions,
    new: Mapping[str, Experiment] = MappingProxyType({}),
    source: Path | None = None,
) -> None:
    """Train what is missing, or write the job script that does.

    Args:
      sweep: the sweep.
      options: its options.
      new: experiments of runs without a directory, by name.
      source: file of their config.
    """
    if not options.vmapped:
        leave_devices()
    pending = find_pending(sweep, options.retry)
    entries = [entry for _, entry in pending]
    together = None
    if options.vmapped and entries:
        name = entries[0].name
        first = new[name] if name in new else sweep.load_experiment(entries[0])
        together = plan_vmapped(entries, first, options.at_once)
    if source is not None:
        claim_runs(sweep, new, source)
    if options.array:
        return _write_array(sweep, [number for number, _ in pending])
    if together is not None:
        together(sweep)
    else:
        train_all(sweep, entries)
    _show(sweep, options)


def _write_array(sweep: Sweep, numbers: Sequence[int]) -> None:
    if not numbers:
        raise UserError("array: all runs are finished or failed (--retry)", "array")
    path = write_array(sweep, numbers)
    print(f"{path}: {len(numbers)} tasks; submit it with: sbatch {path}")


def _show(sweep: Sweep, options: StoredOptions) -> None:
    """Print the runs, or the table of what is finished, which is written, too."""
    if options.list:
        for number, entry in enumerate(sweep.runs):
            print(f"{number:>4}  {sweep.read_state(entry):<8}  {entry.name}")
        return
    keep, evaluates = read_keep(sweep)
    metric = choose_metric(keep, evaluates, options.metric, options.larger_is_better)
    table = make_table(sweep, metric)
    if is_sweep(str(sweep.folder)):
        write_table(sweep, table)
    print(print_table(table))
    if is_sweep(str(sweep.folder)):
        print(f"table     {sweep.folder / CSV}")
