"""Run directories: what ``train`` writes once at the start, and what ``sample`` and ``evaluate`` start from."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from genjax import experiment as experiments
from genjax import parallel
from genjax.checkpoint import Checkpoints
from genjax.data.dataset import Codec, Dataset, Spec
from genjax.errors import UserError, unknown
from genjax.evaluation.judge import Evaluator, Model, Report, Subject, held_out_metrics, judge, sampled
from genjax.experiment import Experiment
from genjax.family import State, init_state

# Numbers folded into the base key where others fold in a step; no run comes that far.
EVALUATION, SAMPLES, EVALUATORS = 2**32 - 1, 2**32 - 2, 2**32 - 3
WRITTEN = frozenset({".png", ".csv", ".txt", ".mid", ".wav"})  # the suffixes of what codecs write


@dataclass(frozen=True)
class Run:
    """A trained run, loaded.

    Attributes:
      experiment: its config.
      run_dir: where it lives.
      step: of the checkpoint that was loaded.
      state: all of it; ``family.judged(state)`` is what is judged.
      spec: of the data it learned.
      codec: from model space to what a person opens.
      layout: the devices it is on.
    """

    experiment: Experiment
    run_dir: epath.Path
    step: int
    state: State
    spec: Spec
    codec: Codec
    layout: parallel.Layout

    def sample(self, num: int = 64, seed: int = 0, options: Any = None) -> np.ndarray:
        """``num`` samples in model space; ``options`` default to the family's own sampler."""
        if num < 1:
            raise UserError(f"the number of samples is at least 1, not {num}")
        family = self.experiment.family
        if family.no_samples is not None:
            raise UserError(family.no_samples)
        key = jax.random.fold_in(jax.random.key(seed), SAMPLES)
        return sampled(self.layout, family, family.judged(self.state), key, num, options or family.sampler)

    def write_samples(self, out: Path | None = None, num: int = 64, seed: int = 0, options: Any = None) -> Path:
        """Samples in the form that a person opens, beside ``out`` or under ``samples/``; returns the path."""
        stem = _without_suffix(epath.Path(out).expanduser()) if out else None
        stem = stem or self.run_dir / "samples" / f"{self.step:08d}_seed_{seed}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        return self.codec.write(self.sample(num, seed, options), stem)

    def evaluate(self, split: str = "test") -> Report:
        """The family's metrics over the whole split and the findings of all of the config's evaluators."""
        others = needed(self.experiment.evaluators, self.layout)
        data = self.experiment.data.open()
        check_data(self.run_dir, data)
        if split not in data.splits:
            raise unknown("split", split, data.splits)
        return Judge.of(self.experiment, self.layout, data, self.experiment.evaluators, others)(self.state, split)

    def model(self) -> Model:
        """What is judged, and what evaluators of other runs look at."""
        return model(self.experiment, self.state, self.spec, self.codec, f"run {self.run_dir}, ")


def _without_suffix(out: epath.Path) -> epath.Path:
    """A codec adds the suffix of what it writes; no more than those is cut, as of "step_1.5"."""
    return out.with_suffix("") if out.suffix in WRITTEN else out


def model(experiment: Experiment, state: State, spec: Spec, codec: Codec, prefix: str = "") -> Model:
    """A state as evaluators see it."""
    averaged = "averaged (EMA) parameters" if state.ema is not None else "parameters"
    origin = f"{prefix}step {int(state.step)}, {averaged}, seed {experiment.seed}"
    return Model(experiment.family, experiment.family.judged(state), spec, codec, origin)


def needed(evaluators: Sequence[Evaluator], layout: parallel.Layout) -> dict[str, Model]:
    """The runs that evaluators need, loaded onto the same devices.

    Raises:
      UserError: one is missing; the message says which command makes it.
    """
    found: dict[str, Model] = {}
    for evaluator in evaluators:
        for run_dir in evaluator.runs:
            if stored_experiment(epath.Path(run_dir)) is None:
                name = Path(run_dir).name
                config = name if name in experiments.known_configs() else "CONFIG"
                raise UserError(
                    f"{type(evaluator).__name__} needs the run {run_dir}, which is not there; "
                    f"make it: python -m genjax train {config} --run-dir {run_dir}"
                )
            found[run_dir] = load(run_dir, layout=layout).model()
    return found


@dataclass(frozen=True)
class Judge:
    """Judges states of one experiment on a split, with the same draws at every step and in every process.

    Attributes:
      experiment: whose states.
      layout: the devices.
      data: opened.
      evaluators: those of the experiment's that are asked.
      others: the runs that these need.
      compiled: the family's own ``evaluate``.
    """

    experiment: Experiment
    layout: parallel.Layout
    data: Dataset
    evaluators: tuple[Evaluator, ...]
    others: Mapping[str, Model]
    compiled: Any

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        layout: parallel.Layout,
        data: Dataset,
        evaluators: tuple[Evaluator, ...],
        others: Mapping[str, Model],
    ) -> Judge:
        """
        Raises:
          UserError: one of the experiment's evaluators cannot look at this family or these data.
        """
        for evaluator in experiment.evaluators:
            evaluator.check(experiment.family, data.spec, others)
        compiled = layout.compile_evaluation(experiment.family.evaluate)
        return cls(experiment, layout, data, evaluators, others, compiled)

    def __call__(self, state: State, split: str) -> Report:
        judged = model(self.experiment, state, self.data.spec, self.data.codec)
        size, chosen = self.experiment.batch_size, self.data.splits[split]
        key = jax.random.fold_in(state.key, EVALUATION)
        metrics = held_out_metrics(self.layout, self.compiled, judged.state, chosen, size, key)
        key = jax.random.fold_in(state.key, EVALUATORS)
        subject = Subject(judged, self.data.splits, split, key, self.layout, size, self.others)
        return judge(subject, self.evaluators, metrics)


def load(
    run_dir: str | Path,
    step: int | None = None,
    best: bool = False,
    devices: parallel.Devices | None = None,
    layout: parallel.Layout | None = None,
) -> Run:
    """Load a run, also one that was copied from another machine or made on other devices.

    Args:
      step: the checkpoint to take; None for the newest.
      best: take the best by ``keep.best`` instead.
      devices: one device by default.
      layout: devices that are arranged already, instead.
    """
    folder = epath.Path(run_dir).expanduser()
    experiment = experiment_of(folder)
    spec, codec = stored_codec(folder)
    layout = layout or parallel.start(devices or parallel.Devices(count=1))
    with Checkpoints(folder, experiment.keep, read_only=True) as checkpoints:
        wanted = checkpoints.best_step() if best else step
        if best and wanted is None:
            raise UserError(f"no checkpoint of {run_dir} has been scored by {experiment.keep.best!r}")
        if wanted is not None and wanted not in checkpoints.steps():
            raise UserError(f"{run_dir} has no checkpoint {wanted}, but {checkpoints.steps()}")
        restored = checkpoints.restore(layout.abstract(initial_state(experiment, spec)), wanted)
    if restored is None:
        raise UserError(f"{run_dir} has no checkpoint yet")
    state, _ = restored
    return Run(experiment, folder, int(state.step), state, spec, codec, layout)


def initial_state(experiment: Experiment, spec: Spec) -> Any:
    """A function without arguments that makes the state of step 0."""
    return functools.partial(_initial_state, experiment, spec)


def _initial_state(experiment: Experiment, spec: Spec) -> State:
    init_key, base_key = jax.random.split(jax.random.key(experiment.seed))
    example = {name: jnp.zeros((1, *shape), dtype) for name, (shape, dtype) in spec.entries.items()}
    example["mask"] = jnp.ones(1)
    params, variables = experiment.family.init(init_key, example, spec)
    return init_state(params, variables, update_rule(experiment), base_key)


def update_rule(experiment: Experiment) -> Any:
    """The built optimizer, or one for each part of the family."""
    return experiment.optimizer.build(experiment.steps, experiment.ema, jnp.dtype(experiment.precision))


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
        return experiments.from_json(stored["spec"]), experiments.from_json(stored["codec"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; `train` with the same config writes it anew") from None


def claim(run_dir: epath.Path, experiment: Experiment, source: Path | None) -> None:
    """Make the run directory this experiment's, or refuse one that is another's."""
    stored = stored_experiment(run_dir)
    # Before its first step a config may still be mended.
    begun = (run_dir / "metrics.jsonl").exists() or any((run_dir / "checkpoints").glob("[0-9]*"))
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


def describe(run_dir: epath.Path, data: Dataset, layout: parallel.Layout) -> None:
    """Write what the run keeps of its data and of where it runs; refuse data that have changed."""
    check_data(run_dir, data)
    record = run_dir / "environment.json"
    starts = _starts(run_dir)
    if jax.process_index() == 0:
        spec, codec = experiments.to_json(data.spec), experiments.to_json(data.codec)
        write_whole(run_dir / "codec.json", json.dumps({"spec": spec, "codec": codec}) + "\n")
        write_whole(record, json.dumps([*starts, _environment(data, layout)], indent=2) + "\n")
    parallel.barrier("describe")


def check_data(run_dir: epath.Path, data: Dataset) -> None:
    """Refuse data that are not those that the run learns from."""
    starts = _starts(run_dir)
    if starts and starts[-1]["data_fingerprint"] != data.fingerprint:
        raise UserError(f"the data have changed since {run_dir} was begun: another fingerprint")


def _starts(run_dir: epath.Path) -> list[dict[str, Any]]:
    """Every start of the run; none where the record is missing or damaged."""
    try:
        starts = json.loads((run_dir / "environment.json").read_text())
        return [start for start in starts if "data_fingerprint" in start]
    except (OSError, ValueError, TypeError):
        return []


def _environment(data: Dataset, layout: parallel.Layout) -> dict[str, Any]:
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
