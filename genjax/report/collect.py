"""Read what a report shows from run directories; the runs are not loaded, so that those of others,
broken and running ones can be shown.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from etils import epath

from genjax.errors import UserError
from genjax.report.evaluations import read_judged
from genjax.report.published import Result, parse, read_note
from genjax.runs import directory, lease, lineage
from genjax.runs.checkpoint_files import find_steps
from genjax.runs.writers import parse_rows
from genjax.serial import stored
from genjax.serial.json_text import Json

MOST = 12  # runs in one report
LARGEST = 1e100  # a value beyond is drawn as one that is not finite
PARTS = ("metrics.jsonl", "config.json", directory.ENVIRONMENT)  # a folder with one is a run

Row = Mapping[str, Json]


@dataclass(frozen=True)
class Collected:
    """What the files of a run say.

    Attributes:
      name: the shortest end of its path that no other run of the report has.
      run_dir: its directory.
      holder: the process that trains it now, in words; None if none does.
      step: the last step with a row or a checkpoint; 0 before the first.
      experiment: the fields of config.json; {} if they cannot be read.
      source: the copy of the config file; None without one.
      starts: the records of its starts.
      rows: the rows of metrics.jsonl.
      evaluations: what `genjax evaluate` found, the newest last.
      lineage: the tree of its origin; None if it cannot be read.
      results: the results that its config states.
      faults: what is missing or damaged, a sentence for each.
    """

    name: str
    run_dir: epath.Path
    holder: str | None
    step: int
    experiment: Mapping[str, Json]
    source: str | None
    starts: Sequence[Row]
    rows: Sequence[Row]
    evaluations: Sequence[Row]
    lineage: str | None
    results: Sequence[Result]
    faults: tuple[str, ...]

    @property
    def steps(self) -> int | None:
        """The steps that the run is to take; None if unknown."""
        found = self.experiment.get("steps")
        return found if isinstance(found, int) else None

    @property
    def state(self) -> str:
        """The state of the run in one or two words."""
        if self.holder is not None:
            return "running"
        if self.step == 0:
            return "not started"
        if self.steps is None:
            return "length unknown"
        return "finished" if self.step >= self.steps else "stopped"

    @property
    def seconds(self) -> float:
        """The seconds that the logged steps took, by the speeds in the rows."""
        total, last = 0.0, 0
        for row in self.rows:
            speed = to_number(row.get("time/steps_per_second"))
            if row["split"] == "train" and math.isfinite(speed) and speed > 0:
                total += max(row["step"] - last, 0) / speed
                last = max(last, row["step"])
        return total

    @property
    def devices(self) -> int:
        """The devices of its last start; 1 if unknown."""
        found = self.starts[-1].get("devices") if self.starts else None
        return found if isinstance(found, int) and found > 0 else 1


def collect_runs(paths: Sequence[str]) -> list[Collected]:
    """Read all runs of a report.

    Raises:
      UserError: a path is not a run directory, a run is named twice, or there are more than
        ``MOST``.
    """
    if len(paths) > MOST:
        raise UserError(f"RUN must be at most {MOST} runs, got {len(paths)}", "RUN")
    places = [_check_run(path) for path in paths]
    real = [os.path.realpath(path) if "://" not in path else path.rstrip("/") for path in paths]
    for number, place in enumerate(real):
        if place in real[:number]:
            raise UserError(f"RUN must name each run once, got {paths[number]!r} twice", "RUN")
    return [collect(place, name) for place, name in zip(places, name_runs(real), strict=True)]


def is_run(folder: epath.Path) -> bool:
    """Return whether a folder has a file that only run directories have."""
    return any((folder / name).exists() for name in PARTS)


def _check_run(path: str) -> epath.Path:
    """Refuse a path that is not a run directory."""
    folder = epath.Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{path!r} must be a run directory, and is a file", path)
    if is_run(folder):
        return folder
    inside = [str(one) for one in find_runs(folder)] if folder.exists() else []
    if inside:
        more = "" if len(inside) < 4 else ", ..."
        raise UserError(
            f"{path!r} must be a run directory, and is a folder of {len(inside)}: "
            f"{', '.join(inside[:3])}{more}; `genjax watch {path}` shows all",
            path,
        )
    raise directory.not_a_run(path)


def find_runs(folder: epath.Path, depth: int = 1) -> list[epath.Path]:
    """Return the run directories in a folder, by name.

    Args:
      folder: the folder.
      depth: levels of folders to look into; runs are not looked into.
    """
    found: list[epath.Path] = []
    with contextlib.suppress(OSError):
        for one in sorted(folder.iterdir()):
            if one.name.startswith(".") or not one.is_dir():
                continue
            if is_run(one):
                found.append(one)
            elif depth > 1:
                found += find_runs(one, depth - 1)
    return found


def name_runs(paths: Sequence[str]) -> list[str]:
    """Return for each path the shortest end that no other has."""
    parts = [PurePosixPath(path).parts for path in paths]
    for count in range(1, max(map(len, parts), default=1)):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def collect(run_dir: epath.Path, name: str) -> Collected:
    """Read a run directory; whatever cannot be read becomes one of the faults."""
    faults: list[str] = []
    rows = _read_rows(run_dir / "metrics.jsonl", faults)
    source = _read_text(run_dir / "config.py")
    starts = directory.starts(run_dir)
    if starts is None:
        faults.append(f"{directory.ENVIRONMENT} is damaged: hardware and versions are unknown")
    experiment = _read_experiment(run_dir / "config.json", faults)
    return Collected(
        name=name,
        run_dir=run_dir,
        holder=find_holder(run_dir),
        step=max([0, *(row["step"] for row in rows), *_find_steps(run_dir)]),
        experiment=experiment,
        source=source,
        starts=starts or [],
        rows=rows,
        evaluations=_read_evaluations(run_dir / "eval.json"),
        lineage=_read_lineage(run_dir, faults) if experiment else None,
        results=_read_results(source),
        faults=tuple(faults),
    )


def to_number(value: Json) -> float:
    """Return a value as a float; NaN if it is not a number, not finite, or beyond ``LARGEST``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return math.nan
    return float(value)


def _read_rows(path: epath.Path, faults: list[str]) -> list[dict[str, Json]]:
    """Read the rows in the order of their steps; NaN and infinity are left in them."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror}")
        return []
    rows = [row for row in parse_rows(content) if 0 <= row["step"] < LARGEST]
    lost = sum(1 for line in content.splitlines() if line.strip()) - len(rows)
    if lost:
        lines = "1 line" if lost == 1 else f"{lost:,} lines"
        faults.append(f"{path.name} has {lines} that cannot be read, as after a crash")
    return sorted(rows, key=lambda row: row["step"])


def _read_evaluations(path: epath.Path) -> Sequence[Row]:
    with contextlib.suppress(OSError):
        return read_judged(path)
    return []


def _read_text(path: epath.Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return None


def _read_experiment(path: epath.Path, faults: list[str]) -> Mapping[str, Json]:
    if not path.exists():
        faults.append(f"{path.name} is missing: the fields of the run are unknown")
        return {}
    try:
        found = stored.read_json(path, dict, "put a copy of it back").get("experiment")
    except (UserError, OSError) as error:
        faults.append(str(error))
        return {}
    if not isinstance(found, dict):
        faults.append(f"{path.name} is damaged: it has no experiment")
        return {}
    return found


def _find_steps(run_dir: epath.Path) -> list[int]:
    with contextlib.suppress(OSError, UserError):
        return list(find_steps(run_dir))
    return []


def find_holder(run_dir: epath.Path) -> str | None:
    """Return the process that trains a run now, by its lease; None if none does."""
    path = run_dir / lease.NAME
    try:
        holder, renewed = lease.Holder.read(path), path.stat().mtime
    except (OSError, AttributeError):
        return None
    recent = renewed is not None and time.time() - renewed < lease.STALE
    if holder is None or holder.dead or (holder.dead is None and not recent):
        return None
    return str(holder)


def _read_lineage(run_dir: epath.Path, faults: list[str]) -> str | None:
    try:
        return lineage.tree(lineage.read_record(run_dir))
    except (UserError, OSError) as error:
        faults.append(f"its lineage cannot be read: {error}")
        return None


def _read_results(source: str | None) -> tuple[Result, ...]:
    """Return the results in the docstring of a config; () where it states none in the right
    form.
    """
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError, UserError):
        return parse(read_note(source or ""), "config.py")
    return ()


def flatten(value: Any, name: str = "") -> dict[str, str]:
    """Return the fields of JSON by their dotted names, each value as text."""
    if isinstance(value, Mapping) and value:
        items = value.items()
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        items = dict(enumerate(value)).items()
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return {name: text}
    found: dict[str, str] = {}
    for key, one in items:
        found |= flatten(one, f"{name}.{key}" if name else str(key))
    return found
