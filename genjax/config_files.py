"""Load config files, and converts experiments to JSON and back."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.serial import trust
from genjax.serial.config_places import find_config, list_configs
from genjax.serial.neighbours import digest_input, read_neighbours
from genjax.serial.stored import blame_config, execute, from_json, parse_json

FORMAT = 2  # of config.json; raised when old files can no longer be read
FREE_ON_RESUME = (
    "steps",
    "every",
    "evaluators",
    "devices",
    "data.root",
    "data.cache",
    "data.source*.root",
)
FREE_PER_PROCESS = (
    "data.root",
    "data.cache",
    "data.source*.root",
    "devices.coordinator",
    "devices.distributed",
    "devices.join_timeout",
    "devices.process_id",
    "workers",
)
COMPONENTS = ("family", "data", "optimizer", "every", "keep", "devices", "start_from")
LARGEST_CONFIG = 10_000_000  # bytes, far more than a person writes


def load_run_config(run_dir: str) -> tuple[Experiment, Path] | None:
    """Load the config that a run directory is named after, in its tiny form for NAME_tiny; None if
    there is none.
    """
    name = Path(run_dir).name
    config = name.removesuffix("_tiny")
    return load_config(config, tiny=name != config) if config in list_configs() else None


def load_config(name: str, tiny: bool = False) -> tuple[Experiment, Path]:
    """Load a config: the experiment from its ``get_config``, and its file.

    ``tiny`` shrinks the experiment to seconds, for tests and first looks.
    """
    experiment, path = build_config(name, tiny)
    if not isinstance(experiment, Experiment):
        raise UserError(
            f"get_config of {path} returned {type(experiment).__name__}, not an Experiment"
        )
    return experiment, path


def build_config(name: str, tiny: bool = False) -> tuple[Any, Path]:
    """Return what the config's ``get_config`` builds, and its file."""
    path = find_config(name)
    if path.stat().st_size > LARGEST_CONFIG:
        raise UserError(f"{path} must be a config of at most {LARGEST_CONFIG:,} bytes", str(path))
    content = path.read_bytes()
    files = read_neighbours(path, content)
    module = execute(path, content, files)
    # The run's copy of the config that the user has just named is trusted.
    trust.allow_here([trust.file_entry(digest_input(content, files))])
    if not callable(getattr(module, "get_config", None)):
        raise UserError(f"{path} has no get_config(tiny=False)")
    with blame_config(path):
        return module.get_config(tiny=tiny), path


def to_json(value: Any) -> Any:
    """Convert a tree of frozen dataclasses to JSON; classes and functions are named as
    ``module:Name``.
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
      Untrusted: the file names code that the user has not allowed, see ``trust``.
      UserError: the file is damaged, or has another format.
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
    """Yield a line ``field: old -> new`` for each field, by dotted name, in which two JSON trees
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


def list_shared(experiment: Experiment) -> dict[str, str]:
    """Return the fields that must be the same on all processes of a run, as text by dotted name."""
    lines = _list_fields(to_json(experiment))
    return {name: text for name, text in lines if not _matches(name, FREE_PER_PROCESS)}


def _list_fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    nested = value if isinstance(value, dict) else {}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        nested = {str(i): item for i, item in enumerate(value)}
    for name, item in nested.items():
        yield from _list_fields(item, f"{path}.{name}" if path else name)
    if not nested:
        yield path, json.dumps(value)


def check_resumable(stored: Experiment, wanted: Experiment) -> None:
    """Refuse to resume with another config; steps, intervals, evaluators, devices and the data's
    root may differ.
    """
    found = differences(to_json(stored), to_json(wanted))
    forbidden = [line for line in found if not is_free(line)]
    if forbidden:
        raise UserError(
            "the run directory holds another config; it differs in " + "; ".join(forbidden)
        )


def is_free(difference: str) -> bool:
    """Return whether a line of ``differences`` is about a field that may change on resuming."""
    return _matches(difference.split(":")[0], FREE_ON_RESUME)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a field, or one that holds it, has one of the names."""
    return any(fnmatch.fnmatchcase(f"{name}.", f"{pattern}.*") for pattern in patterns)


def _shorten(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shorten, value))}]"
    if isinstance(value, dict):
        return str(value.get("class", value.get("function"))).partition(":")[2]
    return repr(value)
