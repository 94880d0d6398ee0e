"""Record where a run, its data and its samples come from, and format it as a tree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from etils import epath

from genjax.data.synthetic import SYNTHETIC
from genjax.errors import UserError
from genjax.experiment import find_runs
from genjax.machine import disk
from genjax.runs import directory
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.checkpoint_files import newest_step
from genjax.serial import stored
from genjax.serial.json_text import Json

SAMPLES = "lineage.jsonl"  # beside samples, with a row for each file
# Suffixes of files of samples.
WRITTEN = frozenset({".png", ".csv", ".txt", ".mid", ".wav", ".jsonl", ".abc", ".gif", ".npz"})
BESIDE = ("_children.csv",)  # what is written beside these: see ``RelatedCodec``
# Fields of each row, besides its file.
ROW = frozenset({"sha256", "run", "step", "seed", "config", "data_fingerprint"})
SHOWN = 20  # most raw files listed for a data set
INDENT = "  "

Record = dict[str, Json]


def read_record(run_dir: str | Path | epath.Path, step: int | None = None) -> Record:
    """Return the recorded origin of a run as plain JSON; what is not recorded is None or empty.

    It has the ``run``, ``step``, ``training_seed``, the hash of its ``config``, the ``commits`` of
    genjax, ``data_fingerprint`` and ``origins`` of its data, and its ``parents``: such records of
    the runs that it depends on, by role, as of its start.

    Args:
      run_dir: the run directory.
      step: step of the checkpoint; None for the newest.
    """
    folder = epath.Path(run_dir).expanduser()
    path = folder / "config.json"
    text = stored.read_text(path, "put a copy of it back") if path.exists() else None
    starts = directory.starts(folder) or []
    last = starts[-1] if starts else {}
    # Written by an older genjax.
    older = None if text is None or "parents" in last else directory.load_experiment(folder)
    return {
        "run": str(run_dir),
        "step": newest_step(folder) if step is None else step,
        "training_seed": None if text is None else _read_seed(path),
        "config": None if text is None else hashlib.sha256(text.encode()).hexdigest(),
        "commits": list(dict.fromkeys(start["commit"] for start in starts if start.get("commit"))),
        "data_fingerprint": last.get("data_fingerprint"),
        "origins": last.get("origins", []),
        "parents": last.get("parents", {})
        if older is None
        else parents(folder, find_runs(older), older.start_from.best),
    }


def parents(run_dir: epath.Path, runs: Mapping[str, str], best: bool = False) -> dict[str, Record]:
    """Return the records of the runs that another run depends on, by role, as of its first start if
    it has started.

    Args:
      run_dir: directory of the dependent run.
      runs: directories of the other runs, see ``experiment.find_runs``.
      best: whether it starts from their best checkpoint.
    """
    kept = [start["parents"] for start in directory.starts(run_dir) or [] if "parents" in start]
    if kept:
        return kept[0]
    return {
        role: read_record(run, _best(run) if best and role == "start_from" else None)
        for role, run in runs.items()
    }


def _read_seed(path: epath.Path) -> int:
    """Return the seed in a config.json, without loading its components."""
    found = stored.read_json(path, dict, "put a copy of it back").get("experiment")
    if not isinstance(found, dict) or not isinstance(found.get("seed"), int):
        raise stored.damage_error(path, "it has no seed", "put a copy of it back")
    return int(found["seed"])


def _best(run_dir: str) -> int | None:
    folder = epath.Path(run_dir).expanduser()
    there = directory.load_experiment(folder)
    if there is None or newest_step(folder) is None:
        return None
    with Checkpoints(folder, there.keep, read_only=True) as checkpoints:
        return checkpoints.find_best_step()


def tree(record: Mapping[str, Json]) -> str:
    """Format a record as a tree, with dependencies indented below it.

    Raises:
      UserError: the record does not have the form of ``read_record``, because a file is damaged.
    """
    try:
        return "\n".join([_line(record), *_below(record, INDENT)])
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        path = Path(str(record["run"])) / directory.ENVIRONMENT
        cure = "remove it; `train` with the same config starts the record again"
        raise UserError(
            f"{path} is damaged: its lineage has an unknown form; {cure}", str(path)
        ) from None


def _line(record: Mapping[str, Json]) -> str:
    if record["config"] is None:
        return f"run {record['run']}, which was not there"
    return f"run {record['run']}, step {record['step']}, seed {record['training_seed']}"


def _below(record: Mapping[str, Json], indent: str) -> Iterator[str]:
    yield f"{indent}config {record['config'] or 'not recorded'}"
    yield f"{indent}commit {', '.join(record['commits']) or 'not recorded'}"
    yield f"{indent}data {record['data_fingerprint'] or 'not recorded'}"
    for origin in record["origins"]:
        yield from _origin(origin, indent + INDENT)
    for role, parent in record["parents"].items():
        yield f"{indent}{role}: {_line(parent)}"
        yield from _below(parent, indent + INDENT)


def _origin(origin: Mapping[str, Json], indent: str) -> Iterator[str]:
    yield f"{indent}{origin['kind']} {origin['name']}: {origin['fingerprint']}"
    if origin["kind"] == SYNTHETIC:
        made = origin["generator"]
        yield f"{indent}{INDENT}drawn with seed {made['seed']} from {_line(made)}"
        yield from _below(made, indent + 2 * INDENT)
        return
    inputs = read_inputs(origin)
    if inputs is None:
        unknown = f"{origin['manifest']} is missing, or describes other records"
        yield f"{indent}{INDENT}raw files unknown: {unknown}"
        return
    for name, digest in list(inputs.items())[:SHOWN]:
        yield f"{indent}{INDENT}raw {name}: {digest}"
    if len(inputs) > SHOWN:
        yield f"{indent}{INDENT}and {len(inputs) - SHOWN:,} more in {origin['manifest']}"


def read_inputs(origin: Mapping[str, Json]) -> Mapping[str, str] | None:
    """Return the hashes of the raw files of a real set; None without a manifest of these
    records.
    """
    try:
        manifest = json.loads(Path(origin["manifest"]).read_text(encoding="utf-8"))
        return manifest["inputs"] if manifest["fingerprint"] == origin["fingerprint"] else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def record_samples(
    run_dir: epath.Path,
    step: int,
    seed: int,
    stem: epath.Path,
    write: Callable[[], Path],
    chosen: Mapping[str, Json] | None = None,
) -> Path:
    """Call ``write``, which writes samples beside ``stem``; record the origin of each file; return
    its result.

    Args:
      run_dir: directory of the run that was sampled.
      step: step of its checkpoint.
      seed: seed of the samples.
      stem: path of the samples without a suffix.
      write: function that writes them.
      chosen: "best_of", the number of draws that each sample is the best of, and "reward"; None for
        plain samples.
    """
    before = {path: _digest(path) for path in _find_samples(stem)}
    made = write()
    rows = _rows(stem.parent)
    known = read_record(run_dir, step)
    shared = {"run": str(run_dir), "step": step, "seed": seed, **(chosen or {})}
    shared |= {name: known[name] for name in ("config", "data_fingerprint")}
    for path in _find_samples(stem):
        digest = _digest(path)
        if path.name == made.name or before.get(path) != digest:
            # Files that were there before are not recorded.
            rows[path.name] = {"file": path.name, "sha256": digest, **shared}
    text = "".join(json.dumps(rows[name]) + "\n" for name in sorted(rows))
    disk.write(stem.parent / SAMPLES, text)
    return made


def describe_sample(path: epath.Path) -> str:
    """Describe the origin of a file of samples, with the tree of its run if that exists.

    Raises:
      UserError: the origin is not recorded.
    """
    folder = path.parent.parent if path.parent.name == "samples" else None
    row = _rows(path.parent).get(path.name)
    if row is not None and not row.keys() >= ROW:
        raise UserError(
            f"the row of {path} in {path.parent / SAMPLES} is damaged: it lacks {ROW - row.keys()}",
            str(path),
        )
    if (
        row is None
        and folder is not None
        and (folder / "config.json").exists()
        and path.name[:8].isdigit()
    ):
        step = int(path.name[:8])
        return (
            f"{path}: drawn at step {step} while the run was "
            f"trained\n{tree(read_record(folder, step))}"
        )
    if row is None:
        raise UserError(f"the origin of {path} is not recorded: it has no row in {SAMPLES}")
    changed = "" if row["sha256"] == _digest(path) else "; it has changed since it was drawn"
    chosen = f", each the best of {row['best_of']} by {row['reward']}" if "best_of" in row else ""
    line = (
        f"{path}: drawn from {row['run']}, step {row['step']}, with seed "
        f"{row['seed']}{chosen}{changed}"
    )
    for place in filter(None, (folder, epath.Path(row["run"]).expanduser())):
        known = read_record(place, row["step"])
        if (
            known["data_fingerprint"] is not None
            and known["data_fingerprint"] == row["data_fingerprint"]
        ):
            return f"{line}\n{tree(known)}"
    return f"{line}\n{INDENT}config {row['config']}\n{INDENT}data {row['data_fingerprint']}"


def _find_samples(stem: epath.Path) -> list[epath.Path]:
    """Return the existing files of samples at a stem."""
    paths = (stem.parent / f"{stem.name}{suffix}" for suffix in [*sorted(WRITTEN), *BESIDE])
    return [path for path in paths if path.exists()]


def _digest(path: epath.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(folder: epath.Path) -> dict[str, Record]:
    """Read the records of the samples in a folder, by file; damaged lines are only reported."""
    path = folder / SAMPLES
    rows: dict[str, Record] = {}
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("file"), str):
                rows[row["file"]] = row
    if len(rows) < len(lines):
        note = (
            f"{path}: {len(lines) - len(rows)} damaged lines are skipped; the origin of their "
            "files is unknown"
        )
        print(note, file=sys.stderr, flush=True)
    return rows
