"""Facts about runs, side by side: what they are, what they reached, and how to repeat them."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from genjax.report.collect import Collected, Row, flatten, to_number
from genjax.runs.screen import format_time
from genjax.serial.json_text import Json

UNKNOWN = "–"
MOST = 60  # fields that differ, and numbers of a table, at most


@dataclass(frozen=True)
class Table:
    """A table with a column for each run.

    Attributes:
      title: its title.
      rows: a name, and the text of each run.
      more: rows that were left out.
      notes: lines below it.
    """

    title: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    more: int = 0
    notes: tuple[str, ...] = ()


def compare_runs(runs: Sequence[Collected], price: float | None) -> Table:
    """Return the main facts of each run.

    Args:
      runs: the runs.
      price: of a device for an hour; None if unknown.
    """
    facts: dict[str, Callable[[Collected], str]] = {
        "state": describe_state,
        "family": lambda run: _class(run, "family"),
        "data": lambda run: _class(run, "data"),
        "batch size": lambda run: _field(run, "batch_size"),
        "seed": lambda run: _field(run, "seed"),
        "loss in training": lambda run: _last(run, "train", "loss"),
        "loss on held-out data": lambda run: _last(run, "eval", "loss"),
        "best held-out loss": _best,
        "hardware": describe_hardware,
        "speed": lambda run: _last(run, "train", "time/steps_per_second", " steps/s"),
        "time of the steps": lambda run: format_time(run.seconds) if run.seconds else UNKNOWN,
    }
    if price is not None:
        facts["cost of the steps"] = lambda run: _cost(run, price)
    rows = [(name, tuple(map(fact, runs))) for name, fact in facts.items()]
    known = [(name, texts) for name, texts in rows if set(texts) != {UNKNOWN}]
    notes = ("Time and cost leave out compilation, evaluation and checkpoints.",)
    title = "The run" if len(runs) == 1 else "The runs"
    return Table(title, tuple(known), notes=notes if any(run.seconds for run in runs) else ())


def describe_state(run: Collected) -> str:
    """Return the state of a run with its step."""
    of = "" if run.steps is None else f" of {run.steps:,}"
    return f"{run.state}, step {run.step:,}{of}"


def describe_hardware(run: Collected) -> str:
    """Return the devices of the last start of a run."""
    if not run.starts:
        return UNKNOWN
    start = run.starts[-1]
    device, platform = _text(start.get("device")), _text(start.get("platform"))
    kind = device if device == platform else f"{device} ({platform})"
    hosts = start.get("processes")
    several = f", {hosts} processes" if isinstance(hosts, int) and hosts > 1 else ""
    return f"{run.devices} × {kind}{several}"


def list_differences(runs: Sequence[Collected]) -> Table | None:
    """Return the fields in which the configs of several runs differ; None if there are none."""
    fields = [flatten(run.experiment) for run in runs if run.experiment]
    if len(fields) < len(runs) or len(runs) < 2:
        return None
    names = dict.fromkeys(name for one in fields for name in one)
    rows = [
        (name, tuple(_shorten(one.get(name, UNKNOWN)) for one in fields))
        for name in names
        if len({one.get(name) for one in fields}) > 1
    ]
    return Table("Fields that differ", tuple(rows[:MOST]), max(0, len(rows) - MOST))


def _shorten(text: str) -> str:
    """Return a value as text, of a class only its name."""
    name = re.fullmatch(r"[\w.]+:(\w+)", text)
    return name[1] if name else text[:200]


def list_evaluations(runs: Sequence[Collected]) -> list[Table]:
    """Return the newest evaluation of each set and split, and the last held-out row of training."""
    sets: dict[str, list[Row]] = {}
    for number, run in enumerate(runs):
        for one in run.evaluations:
            of = f"{_text(one['data'])}, " if one.get("data") else ""
            title = f"{of}{_text(one.get('split'))} split"
            sets.setdefault(title, [{} for _ in runs])[number] = one
    tables = [_tabulate(f"genjax evaluate: {title}", found) for title, found in sets.items()]
    last = [_find_last(run, "eval") for run in runs]
    if any(last):
        tables.append(_tabulate("Held out, at the last evaluation while training", last))
    return tables


def _tabulate(title: str, found: Sequence[Row]) -> Table:
    """Return a table of the numbers of one evaluation of each run."""
    names = dict.fromkeys(
        name
        for one in found
        for name, value in one.items()
        if name not in ("step", "split") and (value is None or not math.isnan(to_number(value)))
    )
    names = [name for name in names if name not in ("data", "fingerprint")]
    rows = [("step", tuple(_text(one.get("step")) if one else UNKNOWN for one in found))]
    rows += [(name, tuple(_show(one, name) for one in found)) for name in names[:MOST]]
    notes = dict.fromkeys(note for one in found for note in _protocols(one))
    return Table(title, tuple(rows), max(0, len(names) - MOST), tuple(notes))


def _protocols(one: Row) -> list[str]:
    """Return the protocols and cautions of an evaluation."""
    found = one.get("protocols")
    protocols = list(found.values()) if isinstance(found, Mapping) else []
    cautions = one.get("cautions")
    more = [f"Caution: {one}" for one in cautions] if isinstance(cautions, list) else []
    return [*dict.fromkeys(map(str, protocols)), *more]


def find_command(run: Collected) -> str | None:
    """Return the command that started a run; None if it was started from Python, or unknown."""
    words = run.starts[0].get("command") if run.starts else None
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        return None
    program = PurePath(words[0])
    if program.name in ("genjax", "genjax.exe") or program.parts[-2:] == ("genjax", "__main__.py"):
        return shlex.join(["genjax", *words[1:]])
    return None


def list_versions(run: Collected) -> str:
    """Return the requirements of pip that bring the versions of a run."""
    versions = run.starts[-1].get("versions") if run.starts else None
    if not isinstance(versions, Mapping):
        return ""
    return " ".join(f"{name}=={version}" for name, version in versions.items() if version)


def list_starts(run: Collected) -> list[str]:
    """Return a line for each start of a run."""
    return [
        f"{_text(start.get('started'))}: {_text(start.get('devices'))} × "
        f"{_text(start.get('device'))}, {_text(start.get('mode'))}, "
        f"Python {_text(start.get('python'))}, commit {_text(start.get('commit'))}, "
        f"data {_text(start.get('data_fingerprint'))}"
        for start in run.starts
    ]


def _class(run: Collected, name: str) -> str:
    """Return the class of a component of the config."""
    found = run.experiment.get(name)
    kind = found.get("class") if isinstance(found, Mapping) else None
    return kind.rpartition(":")[2] if isinstance(kind, str) else UNKNOWN


def _field(run: Collected, name: str) -> str:
    found = run.experiment.get(name)
    return f"{found:,}" if isinstance(found, int) else UNKNOWN


def _find_last(run: Collected, split: str) -> Row:
    """Return the last row of a split; {} without one."""
    return next((row for row in reversed(run.rows) if row["split"] == split), {})


def _last(run: Collected, split: str, name: str, unit: str = "") -> str:
    row = _find_last(run, split)
    return _show(row, name) + unit if name in row else UNKNOWN


def _best(run: Collected) -> str:
    found = [(to_number(r.get("loss")), r["step"]) for r in run.rows if r["split"] == "eval"]
    value, step = min((one for one in found if not math.isnan(one[0])), default=(math.nan, 0))
    return UNKNOWN if math.isnan(value) else f"{value:.5g} at step {step:,}"


def _cost(run: Collected, price: float) -> str:
    hours = run.seconds / 3600 * run.devices
    return f"{hours * price:,.4g} for {hours:,.3g} device hours" if run.seconds else UNKNOWN


def _show(row: Row, name: str) -> str:
    """Format a number of a row."""
    if name not in row:
        return UNKNOWN
    value = to_number(row[name])
    return "not finite" if math.isnan(value) else f"{value:.5g}"


def _text(value: Json) -> str:
    """Format a recorded value, which may be of any kind in a damaged file."""
    return UNKNOWN if value is None else str(value)[:200]
