"""The table of a sweep: a figure of each combination, as mean and interval over its seeds."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath
from scipy.special import stdtrit

from genjax.errors import UserError, unknown_name
from genjax.experiment import Keep
from genjax.machine import disk
from genjax.runs.writers import read_rows
from genjax.serial.json_text import Json
from genjax.sweep.directory import Entry, Sweep, write_sweep
from genjax.sweep.grid import shorten_names, write_value

CSV = "table.csv"
TRAIN = "train/"  # before the name of a figure of training
LEVEL = 0.95


@dataclass(frozen=True)
class Metric:
    """A figure by which combinations are compared.

    Attributes:
      name: its name in the last evaluation, or after ``train/`` in the last row of training.
      larger_is_better: whether larger values are better.
    """

    name: str
    larger_is_better: bool = False

    @property
    def sign(self) -> int:
        return -1 if self.larger_is_better else 1

    def find(self, rows: Sequence[Mapping[str, Json]]) -> float | None:
        """Return its value in the last row that has it; NaN if that is not finite, None without
        one.
        """
        split = "train" if self.name.startswith(TRAIN) else "eval"
        name = self.name.removeprefix(TRAIN)
        for row in reversed(rows):
            if row["split"] == split and name in row:
                return math.nan if row[name] is None else float(row[name])
        return None


def choose_metric(keep: Keep, evaluates: bool, name: str | None, larger: bool | None) -> Metric:
    """Return the metric: by default the one by which the config keeps its best checkpoint.

    Args:
      keep: of the config, which knows the direction of its own metric.
      evaluates: whether runs are evaluated; without, the loss of training is the default.
      name: another metric; None for the default.
      larger: whether larger values are better; None for as the config says of its own, and smaller
        for others.
    """
    default = (keep.best or "loss") if evaluates else f"{TRAIN}loss"
    name = default if name is None else name
    if larger is None:
        larger = keep.larger_is_better and name == keep.best
    return Metric(name, larger)


def read_keep(sweep: Sweep) -> tuple[Keep, bool]:
    """Return which checkpoints the config keeps, and whether its runs are evaluated.

    Raises:
      UserError: the sweep has no runs.
    """
    if not sweep.runs:
        raise UserError(f"{sweep.folder} has no runs yet", str(sweep.folder))
    keep = {name: value for name, value in sweep.base["keep"].items() if name != "class"}
    every = sweep.runs[0].values.get("every.evaluate", sweep.base["every"]["evaluate"])
    given = {f"keep.{n}": sweep.runs[0].values.get(f"keep.{n}", keep[n]) for n in keep}
    return Keep(**{name.partition(".")[2]: value for name, value in given.items()}), bool(every)


@dataclass(frozen=True)
class Row:
    """A combination of values over its seeds.

    Attributes:
      values: value of each field.
      figures: the metric of its finished runs.
      failed: number of runs that failed, or whose figure is not finite.
      missing: number of runs that are not finished.
      pruned: number of runs that a search has ended early.
    """

    values: Mapping[str, Json]
    figures: tuple[float, ...]
    failed: int = 0
    missing: int = 0
    pruned: int = 0

    @property
    def mean(self) -> float:
        return float(np.mean(self.figures)) if self.figures else math.nan

    @property
    def half(self) -> float:
        """Half of the interval that holds the mean with 95 %, by Student's t; NaN for one run."""
        count = len(self.figures)
        if count < 2:
            return math.nan
        spread = float(np.std(self.figures, ddof=1))
        return float(stdtrit(count - 1, 0.5 + LEVEL / 2)) * spread / math.sqrt(count)


@dataclass(frozen=True)
class Table:
    """The table of a sweep.

    Attributes:
      metric: the metric.
      fields: fields that differ between combinations, by dotted name.
      rows: combinations.
      failures: reasons of failed runs, by name.
    """

    metric: Metric
    fields: tuple[str, ...]
    rows: tuple[Row, ...]
    failures: Mapping[str, str]

    @property
    def best(self) -> Row | None:
        """The best mean among combinations with the fewest failed runs; None without a figure."""
        found = [row for row in self.rows if row.figures]
        fewest = min((row.failed for row in found), default=0)
        sign = self.metric.sign
        whole = [row for row in found if row.failed == fewest]
        return min(whole, key=lambda row: sign * row.mean, default=None)


def make_table(sweep: Sweep, metric: Metric) -> Table:
    """Read the figures of all runs.

    Raises:
      UserError: some runs are finished, but none has the metric.
    """
    fields = tuple(sweep.list_varied())
    groups: dict[str, list[Entry]] = {}
    for entry in sweep.runs:
        groups.setdefault(json.dumps([entry.values[name] for name in fields]), []).append(entry)
    known: dict[str, None] = {}
    failures: dict[str, str] = {}
    rows = []
    for entries in groups.values():
        states = [sweep.read_state(entry) for entry in entries]
        figures = []
        for entry, state in zip(entries, states, strict=True):
            if state == "failed":
                failures[entry.name] = sweep.read_failure(entry)
            if state != "finished":
                continue
            found = read_rows(epath.Path(sweep.find_run(entry)) / "metrics.jsonl")
            known |= dict.fromkeys(_list_names(found))
            if (value := metric.find(found)) is None or not math.isfinite(value):
                failures[entry.name] = f"{metric.name} is {'missing' if value is None else value}"
            else:
                figures.append(value)
        pruned = states.count("pruned")
        failed = sum(entry.name in failures for entry in entries)
        missing = states.count("waiting") + states.count("started")
        values = {name: entries[0].values[name] for name in fields}
        rows.append(Row(values, tuple(figures), failed, missing, pruned))
    if known and metric.name not in known:
        raise UserError(f"no run has it: {unknown_name('metric', metric.name, known)}", "metric")
    return Table(metric, fields, tuple(rows), failures)


def _list_names(rows: Sequence[Mapping[str, Json]]) -> list[str]:
    """Return the names of all figures, those of training after ``train/``."""
    prefix = {"train": TRAIN, "eval": ""}
    return [
        f"{prefix[row['split']]}{name}"
        for row in rows
        if row["split"] in prefix
        for name in row
        if name not in ("step", "split")
    ]


def write_table(sweep: Sweep, table: Table) -> None:
    """Write ``table.csv``, and the results into ``sweep.json``."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ["mean", "low", "high", "finished", "failed", "pruned", "missing", "best"]
    writer.writerow([*table.fields, f"{table.metric.name} {head[0]}", *head[1:]])
    for row in table.rows:
        ends = (row.mean - row.half, row.mean + row.half)
        numbers = ["" if math.isnan(x) else repr(x) for x in (row.mean, *ends)]
        counts = [len(row.figures), row.failed, row.pruned, row.missing, int(row is table.best)]
        writer.writerow([*(write_value(v) for v in row.values.values()), *numbers, *counts])
    disk.write(sweep.folder / CSV, file.getvalue())
    best = table.best
    write_sweep(
        sweep,
        {
            "metric": table.metric.name,
            "better": "larger" if table.metric.larger_is_better else "smaller",
            "combinations": [_row_to_json(row) for row in table.rows],
            "best": None if best is None else _row_to_json(best),
            "failures": dict(table.failures),
        },
    )


def _row_to_json(row: Row) -> dict[str, Any]:
    finite = {"mean": row.mean, "half": row.half}
    return {
        "values": dict(row.values),
        "figures": list(row.figures),
        **{name: None if math.isnan(x) else x for name, x in finite.items()},
        "failed": row.failed,
        "pruned": row.pruned,
        "missing": row.missing,
    }


def print_table(table: Table) -> str:
    """Return the table as text, with a mark at the best."""
    short = shorten_names(table.fields)
    direction = "larger" if table.metric.larger_is_better else "smaller"
    head = [*short.values(), table.metric.name, "95 %", "runs", "failed", "pruned", "missing", ""]
    lines = [head]
    for row in table.rows:
        interval = "" if math.isnan(row.half) else f"± {row.half:.2g}"
        mean = "-" if math.isnan(row.mean) else f"{row.mean:.6g}"
        numbers = (len(row.figures), row.failed, row.pruned, row.missing)
        counts = [str(number) if number else "" for number in numbers]
        mark = "best" if row is table.best else ""
        lines.append([*map(write_value, row.values.values()), mean, interval, *counts, mark])
    # Columns of counts that are empty are left out.
    kept = [i for i, column in enumerate(zip(*lines[1:], strict=True)) if any(column)]
    lines = [[line[i] for i in kept] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(w.rjust(n) for w, n in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    seeds = f"{table.metric.name}: mean over seeds of the last evaluation, {direction} is better"
    if table.metric.name.startswith(TRAIN):
        seeds = seeds.replace("evaluation", "row of training")
    failed = [f"failed  {name}: {reason}" for name, reason in table.failures.items()]
    return "\n".join([*text, seeds, *failed])
