"""What a run directory holds besides checkpoints and rows: config, codec, the places where it ran, other families."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from genjax import experiment as experiments
from genjax import parallel
from genjax.checkpoint import found_steps
from genjax.data.dataset import Codec, Dataset, Spec
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.family import Trained

OTHERS = "others.json"


def stored_experiment(run_dir: epath.Path) -> Experiment | None:
    """The experiment of a run directory; None where there is none."""
    run_dir = epath.Path(run_dir).expanduser()
    path = run_dir / "config.json"
    if not path.exists():
        return None
    return experiments.loads(path.read_text(), Path(run_dir / "config.py"))


def experiment_of(run_dir: str | Path | epath.Path) -> Experiment:
    """The experiment of a run directory, which has to be one."""
    experiment = stored_experiment(epath.Path(run_dir))
    if experiment is None:
        raise UserError(f"{run_dir} is no run directory: it has no config.json")
    return experiment


def stored_codec(run_dir: epath.Path) -> tuple[Spec, Codec]:
    """What the run keeps of its data."""
    path = run_dir / "codec.json"
    if not path.exists():
        raise UserError(f"{run_dir} has no codec.json: the run had not begun")
    try:
        stored = json.loads(path.read_text())
        spec, codec = experiments.from_json(stored["spec"]), experiments.from_json(stored["codec"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; `train` with the same config writes it anew") from None
    known = {name: getattr(codec, name, None) for name in ("vocabulary", "token_bytes")}
    for name, of_codec in known.items():
        learned = getattr(spec, name)
        if learned is not None and of_codec is not None and not np.array_equal(of_codec, learned):
            raise UserError(f"{path} holds a codec that is not of the tokens that the run has learned")
    return spec, codec


def claim(run_dir: epath.Path, experiment: Experiment, source: Path | None) -> None:
    """Make the run directory this experiment's, or refuse one that is another's."""
    stored = stored_experiment(run_dir)
    # Before its first step a config may still be mended.
    begun = (run_dir / "metrics.jsonl").exists() or bool(found_steps(run_dir))
    if stored is not None and begun:
        experiments.check_resumable(stored, experiment)
    elif stored is None and run_dir.exists() and any(run_dir.iterdir()):
        raise UserError(f"{run_dir} is not empty and no run directory: it has no config.json")
    parallel.barrier("checked")  # before anything is written, so that all processes see the same directory
    if jax.process_index() == 0:
        for name in ("samples", "plots"):
            (run_dir / name).mkdir(parents=True, exist_ok=True)
        if not begun:
            (run_dir / "environment.json").unlink(missing_ok=True)
        if source is not None:
            write_whole(run_dir / "config.py", source.read_text())
        write_whole(run_dir / "config.json", experiments.dumps(experiment))
    parallel.barrier("claim")


def describe(
    run_dir: epath.Path, data: Dataset, layout: parallel.Layout, parents: Mapping[str, Any] | None = None
) -> None:
    """Write what the run keeps of its data and of where it runs; refuse data that have changed.

    Args:
      parents: what is known of the runs that it stands on, by role; none where it stands on none.
    """
    check_data(run_dir, data)
    record = run_dir / "environment.json"
    before = starts(run_dir)
    if jax.process_index() == 0:
        spec, codec = experiments.to_json(data.spec), experiments.to_json(data.codec)
        write_whole(run_dir / "codec.json", json.dumps({"spec": spec, "codec": codec}) + "\n")
        write_whole(record, json.dumps([*before, _environment(data, layout, parents or {})], indent=2) + "\n")
    parallel.barrier("describe")


def check_data(run_dir: epath.Path, data: Dataset) -> None:
    """Refuse data that are not those that the run learns from."""
    before = starts(run_dir)
    if before and before[-1]["data_fingerprint"] != data.fingerprint:
        raise UserError(f"the data have changed since {run_dir} was begun: another fingerprint")


def starts(run_dir: epath.Path) -> list[dict[str, Any]]:
    """Every start of the run; none where the record is missing or damaged."""
    try:
        found = json.loads((run_dir / "environment.json").read_text())
        return [start for start in found if "data_fingerprint" in start]
    except (OSError, ValueError, TypeError):
        return []


def _environment(data: Dataset, layout: parallel.Layout, parents: Mapping[str, Any]) -> dict[str, Any]:
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
        "parents": parents,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that genjax runs from, None where it was installed."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def write_whole(path: epath.Path, text: str) -> None:
    """Write a file at once: a crash in between leaves the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.replace(path)


def keep_others(run_dir: epath.Path, others: Mapping[str, Trained]) -> None:
    """Write down the families that the run stands on, so that it can be loaded where their runs are not."""
    if others and jax.process_index() == 0:
        stored = {role: experiments.to_json(other) for role, other in others.items()}
        write_whole(run_dir / OTHERS, json.dumps(stored, indent=2) + "\n")
    parallel.barrier("others")


def kept_others(run_dir: epath.Path) -> dict[str, Trained] | None:
    """The families that the run stands on; None before it has kept their arrays, too."""
    path = run_dir / OTHERS
    if not (run_dir / "frozen").exists() or not path.exists():
        return None
    try:
        return {role: experiments.from_json(other) for role, other in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged") from None
