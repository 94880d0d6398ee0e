"""Files of a run directory besides checkpoints and rows: config, codec, environment, other
families.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from etils import epath

from genjax import config_files, parallel
from genjax.data.dataset import Codec, Dataset, Spec
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.family import Trained
from genjax.machine import disk
from genjax.runs import lease
from genjax.runs.checkpoint_files import find_steps
from genjax.serial import neighbours, stored, trust
from genjax.serial.config_places import list_configs
from genjax.serial.json_text import Json
from genjax.serial.trust import Untrusted

OTHERS, ENVIRONMENT = "others.json", "environment.json"


def load_experiment(run_dir: epath.Path) -> Experiment | None:
    """Return the experiment of a run directory; None if there is none.

    Raises:
      Untrusted: its files name code that the user has not allowed, see ``trust``.
      UserError: config.json is damaged, or of another format.
    """
    run_dir = epath.Path(run_dir).expanduser()
    path = run_dir / "config.json"
    if not path.exists():
        return None
    cure = (
        "put a copy of it back, or remove it and repeat the `train` command, which writes it again"
    )
    text = stored.read_text(path, cure)
    with _name_file(path, cure):
        return config_files.loads(text, Path(run_dir / "config.py"))


@contextlib.contextmanager
def _name_file(path: epath.Path, cure: str) -> Iterator[None]:
    """Add the file and the cure to errors about its components."""
    try:
        yield
    except Untrusted as error:
        raise Untrusted(f"{path}: {error}", error.field) from None
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}; {cure}", str(path)) from error
    except RecursionError:
        raise stored.damage_error(path, "it is nested too deeply", cure) from None


def require_experiment(run_dir: str | Path | epath.Path) -> Experiment:
    """Return the experiment of a run directory, or raise the error of ``not_a_run``."""
    experiment = load_experiment(epath.Path(run_dir))
    if experiment is None:
        raise not_a_run(run_dir)
    return experiment


def not_a_run(run_dir: str | Path | epath.Path) -> UserError:
    """Return the error for a path that is not a run directory, with the closest name, or how to
    make it.
    """
    path = epath.Path(run_dir)
    cure = ""
    with contextlib.suppress(OSError):
        beside = [str(p.parent) for p in path.parent.glob("*/config.json")]
        near = difflib.get_close_matches(str(path), beside, n=1)
        cure = f"; did you mean {near[0]!r}?" if near else ""
    if not cure and str(run_dir) in list_configs():
        cure = (
            f": it is the name of a config, whose run is runs/{run_dir} after genjax train "
            f"{run_dir}"
        )
    return UserError(
        f"{str(run_dir)!r} must be a run directory, and has no config.json{cure}", str(run_dir)
    )


def load_codec(run_dir: epath.Path) -> tuple[Spec, Codec]:
    """Return the spec and the codec of the run's data.

    Raises:
      Untrusted: see ``load_experiment``.
      UserError: codec.json is missing or damaged.
    """
    path = run_dir / "codec.json"
    if not path.exists():
        raise UserError(f"{run_dir} has no codec.json: the run had not started", str(path))
    cure = "remove it; `train` with the same config writes it again"
    found = stored.read_json(path, dict, cure)
    with _name_file(path, cure):
        spec, codec = (
            stored.from_json(found.get(name), Path(run_dir / "config.py"))
            for name in ("spec", "codec")
        )
    if not isinstance(spec, Spec):
        raise stored.damage_error(path, "it does not hold a Spec", cure)
    if not dataclasses.is_dataclass(codec) or isinstance(codec, type):
        raise stored.damage_error(path, "it does not hold a codec", cure)
    known = {name: getattr(codec, name, None) for name in ("vocabulary", "token_bytes")}
    for name, of_codec in known.items():
        learned = getattr(spec, name)
        if learned is not None and of_codec is not None and not np.array_equal(of_codec, learned):
            raise UserError(f"{path} must hold the codec of the run's tokens, but holds another")
    return spec, cast(Codec, codec)


@dataclass(frozen=True)
class Claim:
    """A run directory that an experiment may use.

    Attributes:
      run_dir: the directory.
      config: text of config.json.
      source: content of the config file; None if the experiment does not come from a file.
      modules: modules beside the config that it imports.
    """

    run_dir: epath.Path
    config: str
    source: bytes | None
    modules: neighbours.Files

    def write(self) -> None:
        """Write the experiment's files into the run directory."""
        if jax.process_index() == 0:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            if not _has_started(self.run_dir):
                (self.run_dir / ENVIRONMENT).unlink(missing_ok=True)
            if self.source is not None:
                _write_neighbours(self.run_dir, self.modules)
                disk.write(self.run_dir / "config.py", self.source)
            disk.write(self.run_dir / "config.json", self.config)
            # Folders come last: if the disk is full, this already counts as a run directory.
            for name in ("samples", "plots"):
                (self.run_dir / name).mkdir(parents=True, exist_ok=True)
        parallel.barrier("claim")


def check_claim(run_dir: epath.Path, experiment: Experiment, source: Path | None) -> Claim:
    """Refuse a directory that holds another experiment, or is not a run directory.

    Args:
      run_dir: the directory.
      experiment: the experiment.
      source: the config file. The user has named it, so its code and that of the experiment are
        trusted from now on.
    """
    trust.remember(stored.list_code(config_files.to_json(experiment)))
    content = None if source is None else source.read_bytes()
    files: neighbours.Files = {}
    if source is not None and content is not None:
        files = neighbours.read_neighbours(source, content)
        trust.remember([trust.file_entry(neighbours.digest_input(content, files))])
    before = load_experiment(run_dir)
    if before is not None and _has_started(run_dir):
        config_files.check_resumable(before, experiment)
    elif before is None and _is_foreign(run_dir, content):
        raise UserError(
            f"{run_dir} must be empty or a run directory, but has files and no config.json"
        )
    # Before anything is written, so that all processes see the same directory.
    parallel.barrier("checked")
    return Claim(run_dir, config_files.dumps(experiment), content, files)


def _write_neighbours(run_dir: epath.Path, files: neighbours.Files) -> None:
    """Store the modules beside the config that it imports, and remove those of an earlier
    config.
    """
    folder = run_dir / neighbours.FOLDER
    if folder.exists():
        folder.rmtree()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        disk.write(folder / name, content)


def _has_started(run_dir: epath.Path) -> bool:
    """Return whether steps were taken; before the first one the config may still change."""
    return (run_dir / "metrics.jsonl").exists() or bool(find_steps(run_dir))


def _is_foreign(run_dir: epath.Path, source: bytes | None) -> bool:
    """Return whether a folder without a config.json holds files that are not the remains of a run.

    A run may leave some if it was killed or its disk was full.

    Args:
      run_dir: the folder.
      source: content of the config file.
    """
    if not run_dir.exists() or (run_dir / "codec.json").exists():
        return False
    left = [
        path
        for path in run_dir.iterdir()
        if path.name != lease.NAME and not path.name.endswith(disk.PART)
    ]
    own = [path for path in left if path.name != neighbours.FOLDER]
    return any(path.name != "config.py" or path.read_bytes() != source for path in own)


def describe(
    run_dir: epath.Path,
    data: Dataset,
    layout: parallel.Layout,
    parents: Mapping[str, Json] | None = None,
) -> None:
    """Write the codec and the environment of a run; refuse data that have changed.

    Args:
      run_dir: the run directory.
      data: data of the run.
      layout: devices of the run.
      parents: records of the runs that it depends on, by role; None or {} for none.
    """
    check_data(run_dir, data)
    record = run_dir / ENVIRONMENT
    before = starts(run_dir)
    if jax.process_index() == 0:
        if before is None:
            record.replace(record.with_name(f"{record.name}.damaged"))
        spec, codec = config_files.to_json(data.spec), config_files.to_json(data.codec)
        trust.remember(stored.list_code([spec, codec]))
        disk.write(run_dir / "codec.json", json.dumps({"spec": spec, "codec": codec}) + "\n")
        disk.write(
            record,
            json.dumps([*(before or []), _environment(data, layout, parents or {})], indent=2)
            + "\n",
        )
    parallel.barrier("describe")


def check_data(run_dir: epath.Path, data: Dataset) -> None:
    """Refuse data that are not those of the run."""
    before = starts(run_dir)
    if before is None:
        line = (
            f"{run_dir / ENVIRONMENT} is damaged: it is unknown whether the data are those of the "
            "run"
        )
        print(line, file=sys.stderr, flush=True)
    elif before and before[-1]["data_fingerprint"] != data.fingerprint:
        raise UserError(
            f"the data have changed since {run_dir} was started: their fingerprint is "
            f"{data.fingerprint}, not {before[-1]['data_fingerprint']}; put the old files back, or "
            "train on these in another run directory (--run-dir)",
            "data",
        )


def is_same_data(run_dir: epath.Path, data: Dataset) -> bool:
    """Return whether data are those of the run, as far as known."""
    before = starts(run_dir)
    return not before or before[-1]["data_fingerprint"] == data.fingerprint


def starts(run_dir: epath.Path) -> list[dict[str, Json]] | None:
    """Return every start of the run; [] without a record, None if it is damaged."""
    path = run_dir / ENVIRONMENT
    if not path.exists():
        return []
    try:
        found = stored.read_json(path, list, "")
    except UserError:
        return None
    return found if all(_is_start(start) for start in found) else None


def _is_start(start: Any) -> bool:
    """Return whether an entry of the record has the parts that readers need."""
    shapes = {"commit": str | None, "origins": list, "parents": dict}
    fits = isinstance(start, dict) and all(
        isinstance(start[n], t) for n, t in shapes.items() if n in start
    )
    return fits and isinstance(start.get("data_fingerprint"), str)


def _environment(
    data: Dataset, layout: parallel.Layout, parents: Mapping[str, Json]
) -> dict[str, Json]:
    packages = ("genjax-train", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    device = layout.mesh.devices.flat[0]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "commit": _commit(),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": layout.mesh.size,
        "mode": layout.mode,
        "processes": jax.process_count(),
        "data_fingerprint": data.fingerprint,
        "origins": [dataclasses.asdict(origin) for origin in data.origins],
        "reading": list(data.remarks),
        "parents": parents,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the git commit that genjax runs from; None if it was installed."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def keep_others(run_dir: epath.Path, others: Mapping[str, Trained]) -> None:
    """Store the families that the run depends on, so that it can be loaded without their runs."""
    if others and jax.process_index() == 0:
        kept = {role: config_files.to_json(other) for role, other in others.items()}
        trust.remember(stored.list_code(kept))
        disk.write(run_dir / OTHERS, json.dumps(kept, indent=2) + "\n")
    parallel.barrier("others")


def load_others(run_dir: epath.Path) -> dict[str, Trained] | None:
    """Return the stored families that the run depends on; None until their arrays are stored."""
    path = run_dir / OTHERS
    if not (run_dir / "frozen").exists() or not path.exists():
        return None
    cure = "remove it, and what it held is read from the runs themselves again"
    found = stored.read_json(path, dict, cure)
    with _name_file(path, cure):
        others = {
            role: stored.from_json(other, Path(run_dir / "config.py"))
            for role, other in found.items()
        }
    if not all(isinstance(other, Trained) for other in others.values()):
        raise stored.damage_error(path, "what it holds is not a trained family", cure)
    return others
