"""``genjax sweep``: train a config with lists of values, and compare the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
from genjax.sweep.grid import make_points, read_values
from genjax.sweep.sequence import leave_devices, train_all, train_task
from genjax.sweep.table import CSV, choose_metric, make_table, print_table, read_keep, write_table
from genjax.sweep.values import read_lists, split_options
from genjax.sweep.vmapped import train_vmapped


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
        if self.metric is not None:
            checks.some(self, "metric")
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
      tiny: use the small form of the config, for a first look.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    stored: Annotated[StoredOptions, tyro.conf.arg(name="")] = StoredOptions()
    seeds: int = 1
    out: str | None = None
    max_runs: int = 100
    tiny: bool = False

    def __post_init__(self) -> None:
        checks.between(self, 1, MAX_SEED, "seeds")
        checks.at_least(self, 1, "max_runs")
        if self.out is not None:
            checks.some(self, "out")


OWN = [field.name for kind in (StoredOptions, SweepOptions) for field in dataclasses.fields(kind)]


def sweep_command(target: str, arguments: Sequence[str]) -> None:
    """``genjax sweep CONFIG``, or ``genjax sweep DIRECTORY`` to continue a sweep."""
    if is_sweep(target):
        sweep = read_sweep(Path(target))
        options = parse(StoredOptions(), f"sweep {target}", arguments)
        return _run(sweep, options)
    experiment, source = load_config(target, "--tiny" in arguments)
    mine, others = split_options(arguments, OWN)
    if {"-h", "--help"} & set(arguments):
        mine = ["--help"]
    chosen = parse(SweepOptions(experiment), f"sweep {target}", mine)
    options = chosen.stored
    if options.task is not None:
        raise UserError("task needs the directory of a sweep: genjax sweep DIRECTORY", "task")
    values = read_values(experiment, read_lists(experiment, others, OWN))
    points = make_points(experiment, values, chosen.seeds, chosen.max_runs)
    name = f"{source.stem}_tiny" if chosen.tiny else source.stem
    folder = Path(chosen.out or f"sweeps/{name}").expanduser()
    sweep, new = add_points(open_sweep(folder, name, experiment), points)
    if not (options.list or options.table):
        if not options.vmapped:
            leave_devices()
        claim_runs(sweep, new, source)
    _run(sweep, options)


def _run(sweep: Sweep, options: StoredOptions) -> None:
    """Train what is missing, or show what there is."""
    if options.list:
        for number, entry in enumerate(sweep.runs):
            print(f"{number:>4}  {sweep.read_state(entry):<8}  {entry.name}")
        return
    if options.task is not None:
        return train_task(sweep, options.task)
    pending = find_pending(sweep, options.retry)
    if options.array:
        if not pending:
            raise UserError("array: all runs are finished or failed (--retry)", "array")
        path = write_array(sweep, [number for number, _ in pending])
        print(f"{path}: {len(pending)} tasks; submit it with: sbatch {path}")
        return
    entries = [entry for _, entry in pending]
    if not options.table and entries:
        if options.vmapped:
            train_vmapped(sweep, entries, options.at_once)
        else:
            leave_devices()
            train_all(sweep, entries)
    keep, evaluates = read_keep(sweep)
    metric = choose_metric(keep, evaluates, options.metric, options.larger_is_better)
    table = make_table(sweep, metric)
    write_table(sweep, table)
    print(print_table(table))
    print(f"table     {sweep.folder / CSV}")
