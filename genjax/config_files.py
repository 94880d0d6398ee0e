"""Config files and the JSON of experiments: find, load, write and compare them."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from genjax import checks
from genjax.errors import UserError, unknown_name
from genjax.experiment import Experiment
from genjax.serial import trust
from genjax.serial.neighbours import digest_input, read_neighbours
from genjax.serial.stored import blame_config, execute, from_json, parse_json

FORMAT = 2  # of config.json; raised when an old file can no longer be read as it stands
FREE_ON_RESUME = (
    "steps",
    "every",
    "evaluators",
    "devices",
    "data.root",
    "data.cache",
    "data.source*.root",
)
COMPONENTS = ("family", "data", "optimizer", "every", "keep", "devices", "start_from")
LARGEST_CONFIG = 10_000_000  # bytes: far above any that a person writes


def configs_folder() -> Path:
    """Where the configs stand: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(name: str) -> Path:
    """Return the config file of that path, or of that bare name under ``configs/``."""
    checks.check_path(name, "CONFIG")
    path = Path(name)
    if path.is_file():
        return path
    if path.exists():
        raise UserError(f"{name!r} must be a config file, and it is not a file", name)
    known = list_configs()
    if path.suffix == ".py" or len(path.parts) != 1:
        hint = f"; did you mean {path.stem!r}?" if path.stem in known else ""
        raise UserError(f"no config file at {name!r}{hint}", name)
    if name not in known:
        raise unknown_name("config", name, known)
    return known[name]


def list_configs() -> dict[str, Path]:
    """Return the files under ``configs/`` by bare name."""
    return {path.stem: path for path in sorted(configs_folder().glob("*/*.py"))}


def load_run_config(run_dir: str) -> tuple[Experiment, Path] | None:
    """Return the experiment and the file of the config that a run directory is named after; its
    tiny form of NAME_tiny.
    """
    name = Path(run_dir).name
    config = name.removesuffix("_tiny")
    return load_config(config, tiny=name != config) if config in list_configs() else None


def load_config(name: str, tiny: bool = False) -> tuple[Experiment, Path]:
    """Return the experiment that the config's ``get_config`` builds, and the file it came from.

    With ``tiny`` the same experiment shrunk to seconds, for tests and first looks.
    """
    experiment, path = build_config(name, tiny)
    if not isinstance(experiment, Experiment):
        raise UserError(
            f"get_config of {path} returned {type(experiment).__name__}, not an Experiment"
        )
    return experiment, path


def build_config(name: str, tiny: bool = False) -> tuple[Any, Path]:
    """What the config's ``get_config`` builds, and the file it came from."""
    path = find_config(name)
    if path.stat().st_size > LARGEST_CONFIG:
        raise UserError(f"{path} must be a config of at most {LARGEST_CONFIG:,} bytes", str(path))
    content = path.read_bytes()
    files = read_neighbours(path, content)
    module = execute(path, content, files)
    # a run's copy of what the user has just named
    trust.allow_here([trust.file_entry(digest_input(content, files))])
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"{path} has no get_config(tiny=False)")
    with blame_config(path):
        return module.get_config(tiny=tiny), path


def to_json(value: Any) -> Any:
    """Return plain JSON for a tree of frozen dataclasses; each says its class as ``module:Class``,
    so do functions.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if "<locals>" in type(value).__qualname__:
            raise UserError(
                f"{type(value).__qualname__} is defined in a function, where no later run finds it"
            )
        fields = {
            f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init
        }
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}"} | fields
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, FunctionType):
        if "<" in value.__qualname__:  # a lambda, or within a function
            raise UserError(
                f"{value.__qualname__} has no name by which a later run finds it: define it in the "
                "config"
            )
        return {"function": f"{value.__module__}:{value.__qualname__}"}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f"{value!r} in a config cannot be written as JSON: use dataclasses, tuples and plain values"
    )


def dumps(experiment: Experiment) -> str:
    """Return the text of ``config.json``."""
    return json.dumps({"format": FORMAT, "experiment": to_json(experiment)}, indent=2) + "\n"


def loads(text: str, config_source: Path | None = None) -> Experiment:
    """Return the experiment of a ``config.json``.

    Raises:
      Untrusted: it names code that the user has not allowed, see ``trust``.
      UserError: it is damaged, or of another format.
    """
    stored = parse_json(text, "config.json")
    if not isinstance(stored, dict) or not {"format", "experiment"} <= stored.keys():
        raise UserError("config.json is damaged: it has no format and no experiment")
    if stored["format"] != FORMAT:
        raise UserError(
            f"the format of config.json must be {FORMAT}, got {stored['format']!r}: "
            "the run was made by another version of genjax"
        )
    try:
        experiment = from_json(stored["experiment"], config_source)
    except RecursionError:
        raise UserError("config.json is damaged: it is nested too deeply") from None
    if not isinstance(experiment, Experiment):
        raise UserError("config.json is damaged: it holds no Experiment")
    for name in COMPONENTS:
        if not dataclasses.is_dataclass(getattr(experiment, name)):
            raise UserError(f"config.json is damaged: its {name} is not a component")
    return experiment


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield lines ``field: old -> new`` for the fields, by dotted name, in which two JSON trees
    differ.
    """
    if isinstance(old, dict) and isinstance(new, dict) and old.get("class") == new.get("class"):
        for name in old | new:
            if name != "class":
                yield from differences(
                    old.get(name), new.get(name), f"{path}.{name}" if path else name
                )
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{path}.{i}")
    elif old != new:
        yield f"{path}: {_shorten(old)} -> {_shorten(new)}"


def check_resumable(stored: Experiment, wanted: Experiment) -> None:
    """Only steps, intervals, evaluators, devices and the data's root may differ when a run
    continues.
    """
    found = differences(to_json(stored), to_json(wanted))
    forbidden = [line for line in found if not is_free(line)]
    if forbidden:
        raise UserError(
            "the run directory holds another config; it differs in " + "; ".join(forbidden)
        )


def is_free(difference: str) -> bool:
    """Return whether a line of ``differences`` is about what may change while a run continues."""
    name = f"{difference.split(':')[0]}."
    return any(fnmatch.fnmatchcase(name, f"{free}.*") for free in FREE_ON_RESUME)


def _shorten(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shorten, value))}]"
    if isinstance(value, dict):
        return str(value.get("class", value.get("function"))).partition(":")[2]
    return repr(value)
