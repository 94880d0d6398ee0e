"""``Experiment``: everything that defines a run, composed in one frozen dataclass; load, save
and compare it.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, Literal

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.continued import wrap_family
from genjax.errors import UserError, unknown_name
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.serial import trust
from genjax.serial.neighbours import digest_input, read_neighbours
from genjax.serial.stored import blame_config, execute, from_json, parse_json
from genjax.start_from import StartFrom

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
FAMILIES = "VAE(), GAN(), Diffusion(), Autoregressive() or Classifier()"
SOURCES = "ImageFolder(...), TextFiles(...), Table(...) or TFDS(...)"
LARGEST_CONFIG = 10_000_000  # bytes: far above any that a person writes
MAX_SEED = 2**32 - 1  # JAX would silently cut a longer one


@checks.frozen
class Every:
    """Steps between two events; 0 for never. The last step counts as due for all that is not 0.

    Attributes:
      log: a row of metrics: the means since the row before, the learning rate of this very step.
      evaluate: the held-out split and the evaluators.
      sample: a picture or file of samples, where the family draws any.
      checkpoint: everything that is needed to continue; written at the last step and at a stop,
        too, even with 0.
    """

    log: int = 50
    evaluate: int = 1000
    sample: int = 1000
    checkpoint: int = 1000

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "log", "evaluate", "sample", "checkpoint")


@checks.frozen
class Keep:
    """Which checkpoints stay.

    Attributes:
      newest: this many of the newest.
      best: and the one with the best value of this metric of the evaluation; None for none.
      larger_is_better: of that metric.
    """

    newest: int = 2
    best: str | None = "loss"
    larger_is_better: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "newest")
        if self.best is not None:
            checks.some(self, "best")


@checks.frozen
class Experiment:
    """A run.

    Attributes:
      family: the model and how it learns.
      data: the source of examples.
      optimizer: an ``Optimizer``; for a family with parts a dataclass of several, whose ``build``
        gives a mapping.
      augment: functions of (key, batch), applied in the compiled step in this order; a config file
        lists them.
      curriculum: what changes about the data over the steps, such as ``Resolutions`` or
        ``ByDifficulty``; None for nothing.
      steps: number of train steps.
      batch_size: examples per step, over all devices and processes.
      seed: random seed of the parameters, the noise and the order of the data.
      precision: what the networks compute in while they train; parameters, losses and optimizer
        state are float32 always, as are evaluation and samples.
      ema: decay of the averaged parameters that are judged and sampled from; None for no average.
      evaluators: what is measured and drawn besides the family's own metrics; a config file lists
        them.
      every: intervals.
      keep: checkpoints that stay.
      devices: on what it runs.
      steps_per_dispatch: steps in one compiled call; more hides the host's share of small steps.
      workers: processes that read data which do not fit in memory; 0 for threads.
      start_from: another run whose parameters it starts with, if any.
    """

    family: Component
    data: Component
    optimizer: Any = Adam()
    augment: tuple[Component, ...] = ()
    curriculum: Component = None
    steps: int = 10_000
    batch_size: int = 128
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    ema: float | None = None
    evaluators: tuple[Component, ...] = ()
    every: Every = Every()
    keep: Keep = Keep()
    devices: Devices = Devices()
    steps_per_dispatch: int = 1
    workers: int = 0
    start_from: StartFrom = StartFrom()

    def __post_init__(self) -> None:
        checks.component(self.family, "family", "init", "evaluate", such=FAMILIES)
        checks.component(self.data, "data", "open", such=SOURCES)
        checks.component(self.optimizer, "optimizer", "build", such="Adam() or Muon()")
        if self.curriculum is not None:
            checks.component(self.curriculum, "curriculum", "check", such="ByDifficulty(...)")
        for field, hint in typing.get_type_hints(Experiment).items():
            object.__setattr__(self, field, checks.convert(getattr(self, field), hint, field))
        checks.at_least(self, 1, "steps", "batch_size", "steps_per_dispatch")
        checks.at_least(self, 0, "workers")
        checks.between(self, 0, MAX_SEED, "seed")
        checks.inside(self, 0, 1, "ema")
        for name in (
            "augment",
            "evaluators",
        ):  # on the command line an empty one would take any word
            for item in getattr(self, name):
                if not callable(item):
                    such = "SampleQuality()" if name == "evaluators" else "Flip()"
                    raise UserError(
                        f"{name} holds functions from a config file, such as {such}, not {item!r}",
                        name,
                    )
        self._check_collection()
        self._check_intervals()

    def _check_collection(self) -> None:
        """Refuse what changes examples, where the family has seen them before they are changed."""
        name, family = type(self.family).__name__, wrap_family(self.family)
        changed = self.curriculum is not None and self.curriculum.changes_batches
        if family.collect is not None and (self.steps_per_dispatch > 1 or self.augment or changed):
            raise UserError(
                f"{name} collects on the host: steps_per_dispatch must be 1, no augment, and no "
                "curriculum but an order"
            )
        if family.precompute is not None and (self.augment or changed):
            raise UserError(
                f"{name} learns what others say of its examples beforehand: no augment, and no "
                "curriculum but an order"
            )

    def _check_intervals(self) -> None:
        """Refuse a step at which something is due within a dispatch."""
        intervals = {"steps": self.steps}
        for field in dataclasses.fields(self.every):
            intervals[f"every.{field.name}"] = getattr(self.every, field.name)
        if self.curriculum is not None:
            self.curriculum.check(self.family)
            for i, start in enumerate(self.curriculum.starts):
                intervals[f"curriculum.starts.{i}"] = start
        for name, interval in intervals.items():
            if interval % self.steps_per_dispatch:
                raise UserError(
                    f"{name} {interval} is not a multiple of steps_per_dispatch "
                    f"{self.steps_per_dispatch}"
                )


def find_runs(experiment: Experiment) -> dict[str, str]:
    """The directories of the runs that an experiment needs before its first step, by role: those
    that its family depends on, the one that it starts from, and those that its curriculum asks.
    """
    start, curriculum = experiment.start_from, experiment.curriculum
    found = {f"family.{role}": run for role, run in wrap_family(experiment.family).runs.items()}
    if start.run is not None:
        found["start_from"] = start.run
    score = None if curriculum is None else curriculum.score
    scorers = () if score is None else score.runs
    return found | {f"curriculum.{number}": run for number, run in enumerate(scorers)}


def configs_folder() -> Path:
    """Where the configs stand: inside the installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(name: str) -> Path:
    """The config file of that path, or of that bare name under ``configs/``."""
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
    """The files under ``configs/`` by bare name."""
    return {path.stem: path for path in sorted(configs_folder().glob("*/*.py"))}


def load_run_config(run_dir: str) -> tuple[Experiment, Path] | None:
    """The experiment and the file of the config that a run directory is named after; its tiny
    form of NAME_tiny.
    """
    name = Path(run_dir).name
    config = name.removesuffix("_tiny")
    return load_config(config, tiny=name != config) if config in list_configs() else None


def load_config(name: str, tiny: bool = False) -> tuple[Experiment, Path]:
    """The experiment that the config's ``get_config`` builds, and the file it came from.

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
    """Plain JSON for a tree of frozen dataclasses; each says its class as ``module:Class``, so
    do functions.
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
    """The text of ``config.json``."""
    return json.dumps({"format": FORMAT, "experiment": to_json(experiment)}, indent=2) + "\n"


def loads(text: str, config_source: Path | None = None) -> Experiment:
    """The experiment of a ``config.json``.

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
    """Lines ``field: old -> new`` for the fields, by dotted name, in which two JSON trees
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
    """Whether a line of ``differences`` is about what may change while a run continues."""
    name = f"{difference.split(':')[0]}."
    return any(fnmatch.fnmatchcase(name, f"{free}.*") for free in FREE_ON_RESUME)


def _shorten(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shorten, value))}]"
    if isinstance(value, dict):
        return str(value.get("class", value.get("function"))).partition(":")[2]
    return repr(value)
