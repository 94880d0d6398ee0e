"""Where a run, its data and its samples come from: what is recorded of it, and the tree that a
person reads.
"""

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

SAMPLES = "lineage.jsonl"  # next to samples: a row for each file
# the suffixes of what samples are written as
WRITTEN = frozenset({".png", ".csv", ".txt", ".mid", ".wav", ".jsonl"})
# of each row, besides its file
ROW = frozenset({"sha256", "run", "step", "seed", "config", "data_fingerprint"})
SHOWN = 20  # raw files of a data set that are listed
INDENT = "  "

Record = dict[str, Json]


def read_record(run_dir: str | Path | epath.Path, step: int | None = None) -> Record:
    """All that is known of where a run comes from, as plain JSON: None and nothing where it is not
    recorded.

    Its ``run``, ``step``, ``training_seed``, the hash of its ``config``, the ``commits`` of genjax
    that it ran by, ``data_fingerprint`` and ``origins`` of its data, and its ``parents``: records
    like this one of the runs that it depends on, by role, as they were when it started.

    Args:
      step: of the checkpoint; the newest by default.
    """
    folder = epath.Path(run_dir).expanduser()
    path = folder / "config.json"
    text = stored.read_text(path, "put a copy of it back") if path.exists() else None
    starts = directory.starts(folder) or []
    last = starts[-1] if starts else {}
    # of an older genjax
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
    """Return the records of the runs that another depends on, by role: those of its first start, if
    it has started.

    Args:
      run_dir: of the run that depends on them.
      runs: their directories, see ``experiment.find_runs``.
      best: whether it starts from the best checkpoint.
    """
    kept = [start["parents"] for start in directory.starts(run_dir) or [] if "parents" in start]
    if kept:
        return kept[0]
    return {
        role: read_record(run, _best(run) if best and role == "start_from" else None)
        for role, run in runs.items()
    }


def _read_seed(path: epath.Path) -> int:
    """Return the seed in a config.json, read without the code of its components."""
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
    """Return a record for a person: what it depends on is indented below it.

    Raises:
      UserError: it has another form than ``read_record`` gives, as that of a damaged file may.
    """
    try:
        return "\n".join([_line(record), *_below(record, INDENT)])
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        path = Path(str(record["run"])) / directory.ENVIRONMENT
        cure = "remove it; `train` with the same config starts the record again"
        raise UserError(
            f"{path} is damaged: it has no lineage of the form known here; {cure}", str(path)
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
        unknown = f"{origin['manifest']} is not there, or of other records"
        yield f"{indent}{INDENT}raw files not known: {unknown}"
        return
    for name, digest in list(inputs.items())[:SHOWN]:
        yield f"{indent}{INDENT}raw {name}: {digest}"
    if len(inputs) > SHOWN:
        yield f"{indent}{INDENT}and {len(inputs) - SHOWN:,} more in {origin['manifest']}"


def read_inputs(origin: Mapping[str, Json]) -> Mapping[str, str] | None:
    """Return the hashes of the raw files of a real set; None if the manifest of these very records
    is not there.
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
    """What ``write`` returns, which writes samples next to ``stem``; a row for each file says where
    it is from.

    Args:
      run_dir: that they were drawn from.
      step: of its checkpoint.
      seed: of the draws.
      chosen: "best_of" how many draws each is the best of, and the "reward"; None for plain draws.
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
            # others that were there are not ours
            rows[path.name] = {"file": path.name, "sha256": digest, **shared}
    text = "".join(json.dumps(rows[name]) + "\n" for name in sorted(rows))
    disk.write(stem.parent / SAMPLES, text)
    return made


def describe_sample(path: epath.Path) -> str:
    """Where a file of samples comes from, with the tree of its run where that is there.

    Raises:
      UserError: nothing is recorded of it.
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
        raise UserError(
            f"nothing is recorded of where {path} comes from: there is no row for it in {SAMPLES}"
        )
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
    """Return the files of samples that there are at a stem."""
    paths = (stem.parent / f"{stem.name}{suffix}" for suffix in sorted(WRITTEN))
    return [path for path in paths if path.exists()]


def _digest(path: epath.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(folder: epath.Path) -> dict[str, Record]:
    """What is recorded of the samples of a folder, by file; a damaged line costs a remark, not
    the samples.
    """
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
            f"{path}: {len(lines) - len(rows)} damaged lines are left out; of their files "
            "nothing is recorded"
        )
        print(note, file=sys.stderr, flush=True)
    return rows
