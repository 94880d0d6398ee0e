"""The directory of a sweep: ``sweep.json``, and a run directory for each run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from etils import epath

from genjax.config_files import differences, to_json
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.machine import disk
from genjax.runs import directory, lease
from genjax.runs.checkpoint_files import newest_step
from genjax.serial.json_text import Json
from genjax.serial.stored import read_json
from genjax.sweep.grid import SEED, Point, digest, name_run

NAME, FAILED, LOGS = "sweep.json", "failed.json", "logs"
FORMAT = 1
STOPPED = (129, 130, 143)  # exit codes of runs that saved after a signal
State = Literal["finished", "failed", "pruned", "started", "waiting"]


@dataclass(frozen=True)
class Entry:
    """A run of a sweep.

    Attributes:
      name: name of its directory.
      values: values of the fields that options named, and ``seed``, by dotted name.
      digest: of its experiment.
    """

    name: str
    values: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
      folder: its directory.
      config: name of the config.
      base: JSON of the config's experiment.
      runs: its runs; new ones come last, so that the number of a run stays.
    """

    folder: Path
    config: str
    base: Mapping[str, Json]
    runs: tuple[Entry, ...] = ()

    def find_run(self, entry: Entry) -> Path:
        """Return the directory of a run."""
        return self.folder / entry.name

    def load_experiment(self, entry: Entry) -> Experiment:
        """Return the experiment of a run.

        Raises:
          UserError: its directory is gone.
        """
        return directory.require_experiment(self.find_run(entry))

    def read_state(self, entry: Entry) -> State:
        """Return how far a run is."""
        run_dir = epath.Path(self.find_run(entry))
        step = newest_step(run_dir)
        if step is not None and step >= self._count_steps(run_dir):
            return "finished"
        if (run_dir / FAILED).exists():
            failure = read_json(run_dir / FAILED, dict, "remove it")
            return "pruned" if failure.get("pruned") else "failed"
        return "waiting" if step is None else "started"

    @staticmethod
    def _count_steps(run_dir: epath.Path) -> int:
        stored = read_json(run_dir / "config.json", dict, "")
        return int(stored["experiment"]["steps"])

    def read_failure(self, entry: Entry) -> str:
        """Return why a run failed; "" if it did not."""
        path = self.find_run(entry) / FAILED
        if not path.exists():
            return ""
        return str(read_json(epath.Path(path), dict, "remove it").get("reason", ""))

    def list_varied(self) -> list[str]:
        """Return the fields besides the seed that differ between the runs, by dotted name."""
        return list_varied([entry.values for entry in self.runs])


def list_varied(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names, besides the seed, that have more than one value."""
    names = dict.fromkeys(name for one in values for name in one if name != SEED)
    return [n for n in names if len({json.dumps(one.get(n)) for one in values}) > 1]


def is_sweep(place: str) -> bool:
    """Return whether a path is the directory of a sweep."""
    return (Path(place) / NAME).is_file()


def read_sweep(folder: Path) -> Sweep:
    """Read a sweep from its directory.

    Raises:
      UserError: there is none, or ``sweep.json`` is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"{str(folder)!r} must be the directory of a sweep; it has no {NAME}", NAME)
    found = read_json(epath.Path(path), dict, "make the sweep again in another directory (--out)")
    try:
        if found["format"] != FORMAT:
            raise UserError(f"the format of {path} must be {FORMAT}, got {found['format']}", NAME)
        runs = tuple(Entry(run["name"], run["values"], run["digest"]) for run in found["runs"])
        for run in runs:
            if Path(run.name).name != run.name or not isinstance(run.values, dict):
                raise KeyError(run.name)
        return Sweep(folder, found["config"], found["base"], runs)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error} is missing or wrong", NAME) from None


def write_sweep(sweep: Sweep, results: Mapping[str, Json] | None = None) -> None:
    """Write ``sweep.json``: the grid, and results if there are any."""
    fields: dict[str, list[Json]] = {}
    for entry in sweep.runs:
        for name, value in entry.values.items():
            if value not in fields.setdefault(name, []):
                fields[name].append(value)
    content: dict[str, Json] = {
        "format": FORMAT,
        "config": sweep.config,
        "fields": fields,
        "runs": [dataclasses.asdict(entry) for entry in sweep.runs],
        "base": sweep.base,
    }
    if results is not None:
        content["results"] = results
    disk.write(sweep.folder / NAME, json.dumps(content, indent=2) + "\n")


def open_sweep(folder: Path, config: str, base: Experiment) -> Sweep:
    """Return the sweep of a directory, or a new one without runs.

    Args:
      folder: the directory.
      config: name of the config.
      base: experiment of the config.

    Raises:
      UserError: the directory holds other files, or the sweep of another config.
    """
    wanted = to_json(base)
    if is_sweep(str(folder)):
        sweep = read_sweep(folder)
        changed = list(differences(sweep.base, wanted))
        if sweep.config != config or changed:
            what = "; ".join(changed) or f"config: {sweep.config} -> {config}"
            raise UserError(
                f"out {str(folder)!r} holds a sweep of another config ({what}): give another "
                "directory (--out)",
                "out",
            )
        return sweep
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"out must be empty or the directory of a sweep; {str(folder)!r} has files and no "
            f"{NAME}",
            "out",
        )
    return Sweep(folder, config, wanted)


def add_points(
    sweep: Sweep, points: Sequence[Point], named: Sequence[str] = ()
) -> tuple[Sweep, dict[str, Experiment]]:
    """Return the sweep with the runs that it lacks, and the experiments of runs without a
    directory, by name. Nothing is written.

    Args:
      sweep: the sweep.
      points: wanted runs.
      named: fields in the names of new runs, besides those that differ.
    """
    whole: list[Mapping[str, Any]] = [*(e.values for e in sweep.runs), *(p.values for p in points)]
    names = dict.fromkeys(name for values in whole for name in values)
    runs = {
        e.digest: dataclasses.replace(e, values=_complete(e.values, sweep, names))
        for e in sweep.runs
    }
    varied = list_varied([_complete(values, sweep, names) for values in whole])
    shown = [name for name in names if name in varied or name in named]
    taken, missing = {entry.name for entry in sweep.runs}, dict[str, Experiment]()
    for point in points:
        mark = digest(point.experiment)
        if mark not in runs:
            values = _complete(point.values, sweep, names)
            name = next(n for n in _number(name_run(values, shown)) if n not in taken)
            taken.add(name)
            runs[mark] = Entry(name, values, mark)
        if not (sweep.folder / runs[mark].name / "config.json").exists():
            missing[runs[mark].name] = point.experiment
    return dataclasses.replace(sweep, runs=tuple(runs.values())), missing


def _complete(values: Mapping[str, Any], sweep: Sweep, names: Iterable[str]) -> dict[str, Json]:
    """Return the values of a run as JSON, also of fields that options of other runs named."""
    given = {name: to_json(value) for name, value in values.items()}
    return {n: given[n] if n in given else _look_up(sweep.base, n) for n in names}


def _number(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name},{number}"
        number += 1


def _look_up(tree: Any, name: str) -> Json:
    for part in name.split("."):
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree


def claim_runs(sweep: Sweep, new: Mapping[str, Experiment], source: Path) -> None:
    """Write the directories of new runs with their configs, and ``sweep.json``.

    Args:
      sweep: the sweep.
      new: experiments by name, see ``add_points``.
      source: file of the config.
    """
    (sweep.folder / LOGS).mkdir(parents=True, exist_ok=True)
    claims = [
        directory.check_claim(epath.Path(sweep.folder / name), experiment, source)
        for name, experiment in new.items()
    ]
    write_sweep(sweep)
    for claim in claims:
        claim.write()


def find_pending(sweep: Sweep, retry: bool) -> list[tuple[int, Entry]]:
    """Return the runs that are not finished, with their numbers; failed ones only to ``retry``."""
    states = [sweep.read_state(entry) for entry in sweep.runs]
    left = ("waiting", "started", "failed") if retry else ("waiting", "started")
    return [(i, e) for i, e in enumerate(sweep.runs) if states[i] in left]


def write_failure(run_dir: Path, code: int, reason: str, pruned: bool = False) -> None:
    """Record why a run failed, or that a search ended it early."""
    record = {"code": code, "reason": reason, "pruned": pruned}
    disk.write(run_dir / FAILED, json.dumps(record) + "\n")


def is_held(run_dir: Path, error: UserError) -> bool:
    """Return whether an error says that another process trains the run, which is not a failure."""
    return error.field == str(run_dir / lease.NAME)


def clear_failure(run_dir: Path) -> None:
    """Forget that a run failed, because it is tried again."""
    (run_dir / FAILED).unlink(missing_ok=True)
