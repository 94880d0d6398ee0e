"""Set up a run: open the data, find the other runs, and check everything once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from genjax import parallel
from genjax.checks import Component
from genjax.continued import Continued, with_codec, wrap_family
from genjax.data.dataset import Dataset, Spec
from genjax.data.snapshots import Frozen, freeze
from genjax.data.text.dataset import get_tokenizer, note_template, open_as
from genjax.errors import UserError
from genjax.experiment import Experiment
from genjax.family import State, Trained, init_state, make_example
from genjax.optim import Rules
from genjax.parallel import Layout
from genjax.runs import directory
from genjax.runs.checkpoint_files import newest_step
from genjax.runs.meter import PackedMetrics
from genjax.samplers.options import Labelled, number_label
from genjax.serial.config_places import list_configs

AUGMENT = 2**31 - 1  # folded into the key of a step for its augmentations


@dataclass(frozen=True)
class Setup:
    """A run that is ready for its first step.

    Attributes:
      experiment: with its final family: other families instead of the runs that it depends on.
      data: opened.
      layout: the devices.
      others: the families that the experiment's depends on, by role.
      target: the state's shapes, types and places.
      run_step: the compiled train step, ``(state, batch) -> state, metrics``.
      run_dir: of the run; None if nothing is kept.
      frozen: sources whose examples the run keeps, as they may change.
    """

    experiment: Experiment
    data: Dataset
    layout: Layout
    others: Mapping[str, Trained]
    target: State
    run_step: Any
    run_dir: epath.Path | None = None
    frozen: tuple[Frozen, ...] = ()

    @property
    def family(self) -> Continued:
        """The experiment's family."""
        return wrap_family(self.experiment.family)

    @property
    def platform(self) -> str:
        """Platform that the step is compiled for: "cpu", "gpu" or "tpu"."""
        return self.layout.platform


def set_up(
    experiment: Experiment,
    run_dir: str | Path | epath.Path | None = None,
    *,
    data: Dataset | None = None,
    layout: Layout | None = None,
) -> Setup:
    """Set up an experiment without writing or training anything.

    Args:
      experiment: the experiment.
      run_dir: run directory, whose stored codec and families take precedence over other runs, which
        may be gone.
      data: opened data; None for the experiment's own.
      layout: arranged devices; None for the experiment's own.

    Raises:
      UserError: data or another run are missing or do not fit.
    """
    folder = None if run_dir is None else epath.Path(run_dir).expanduser()
    layout = layout or parallel.start(experiment.devices)
    frozen: tuple[Frozen, ...] = ()
    if data is None:
        source, frozen = freeze(experiment.data, folder)
        started = folder is not None and newest_step(folder) is not None
        data = open_source(experiment, source, folder if started else None)
    experiment, others = resolve(experiment, data.spec, folder)
    experiment = dataclasses.replace(experiment, family=with_codec(experiment.family, data.codec))
    _check_label(experiment, data.spec)
    setup = _setup(experiment, data, layout, others, folder)
    return dataclasses.replace(setup, frozen=frozen)


def _check_label(experiment: Experiment, spec: Spec) -> None:
    """Refuse a config whose sampler gives a label by name, which only ``sample`` and ``export``
    look up.
    """
    family: Component = wrap_family(experiment.family).wrapped
    if family.no_samples is None and isinstance(family.sampler, Labelled):
        label = family.sampler.label
        if isinstance(label, str):
            number = number_label(label, spec.class_names, spec.classes)
            raise UserError(
                f"family.sampler.label must be a number in a config, got {label!r}, which is "
                f"{number}",
                "family.sampler.label",
            )


def with_experiment(
    setup: Setup, experiment: Experiment, run_dir: epath.Path | None = None
) -> Setup:
    """Return the setup for another experiment with the same family, data and devices."""
    return _setup(experiment, setup.data, setup.layout, setup.others, run_dir)


def _setup(
    experiment: Experiment,
    data: Dataset,
    layout: Layout,
    others: Mapping[str, Trained],
    run_dir: epath.Path | None,
) -> Setup:
    target = layout.eval_shapes(initial_state(experiment, data.spec, others))
    run_step = layout.compile_step(make_step(experiment), target, experiment.steps_per_dispatch > 1)
    return Setup(experiment, data, layout, others, target, run_step, run_dir)


def set_up_stored(run_dir: str | Path | epath.Path, layout: Layout | None = None) -> Setup:
    """Set up a run from its directory, without its data: splits and fingerprint are empty.

    Args:
      run_dir: the run directory.
      layout: arranged devices; None for one device.
    """
    folder = epath.Path(run_dir).expanduser()
    experiment = directory.require_experiment(folder)
    spec, codec = directory.load_codec(folder)
    layout = layout or parallel.start(parallel.Devices(count=1))
    return set_up(experiment, folder, data=Dataset({}, spec, codec, ""), layout=layout)


def find_base(experiment: Experiment) -> str | None:
    """Return the directory of the run whose model this one continues; None if it starts from random
    parameters.
    """
    return experiment.start_from.run or wrap_family(experiment.family).runs.get("base")


def find_tokens(experiment: Experiment) -> str | None:
    """Return the directory of the run in whose tokens text is read: the one that is continued, or a
    teacher; None if there is neither.
    """
    return find_base(experiment) or wrap_family(experiment.family).runs.get("teacher")


def open_data(experiment: Experiment, run_dir: epath.Path | None = None) -> Dataset:
    """Open the data of an experiment, see ``open_source``.

    Args:
      run_dir: of this run, which may have kept examples.
    """
    return open_source(experiment, freeze(experiment.data, run_dir)[0], run_dir)


def open_source(
    experiment: Experiment, source: Component, run_dir: epath.Path | None = None
) -> Dataset:
    """Open a source as the data of an experiment. Text whose codec has no vocabulary is read in the
    tokens of the run that is continued, or of a teacher.

    Args:
      source: the experiment's data.
      run_dir: of this run; its own codec.json comes before that of the other run, which may be
        gone.
    """
    base = find_tokens(experiment)
    for place in () if base is None else filter(None, (run_dir, base)):
        folder = epath.Path(place).expanduser()
        if (folder / "codec.json").exists():
            spec, codec = directory.load_codec(folder)
            if spec.vocabulary is None:
                break
            return open_as(source, codec, str(folder) if place is base else None)
    opened: Dataset = source.open()
    return opened


def resolve(
    experiment: Experiment, spec: Spec, run_dir: epath.Path | None = None
) -> tuple[Experiment, Mapping[str, Trained]]:
    """Replace the runs that the experiment's family depends on by their families; also return these
    by role.

    Copies in ``run_dir`` take precedence, so that the runs may be gone or trained further.

    Raises:
      UserError: a run is missing or does not fit; the message says which command makes it.
    """
    family = wrap_family(experiment.family)
    others = None if run_dir is None else directory.load_others(run_dir)
    if others is None:
        name = type(experiment.family).__name__
        others = {role: _read_trained(path, name) for role, path in family.runs.items()}
    if not others:
        return experiment, {}
    base = others.get("base")
    if base is not None and _learned(base.spec) != _learned(spec):
        kind = type(base.family).__name__
        raise UserError(
            f"{type(experiment.family).__name__} cannot continue {base.run_dir}: it is a {kind} "
            f"and has learned {_learned(base.spec)}, but these data are {_learned(spec)}; name a "
            f"run that has learned {_learned(spec)} (--from, or family.base)",
            "family.base",
        )
    return dataclasses.replace(experiment, family=family.resolve(others, spec)), others


def _learned(spec: Spec) -> str:
    """Return in words what a model of such data models; preference pairs count as tokens."""
    return spec.entry if spec.vocabulary is None else "tokens"


def _read_trained(run_dir: str, who: str) -> Trained:
    stored, folder = require_run(run_dir, who), epath.Path(run_dir).expanduser()
    spec = directory.load_codec(folder)[0]
    family = wrap_family(resolve(stored, spec, folder)[0].family)
    if wrap_family(family.wrapped).runs:
        raise UserError(
            f"{who} cannot depend on the run {run_dir}, which itself depends on other runs"
        )
    return Trained(run_dir, family.wrapped, family.wrapped_spec(spec))


def require_run(run_dir: str, who: str) -> Experiment:
    """Return the experiment of a run that ``who`` needs.

    Raises:
      UserError: there is no such run; the message says which command makes it.
    """
    stored = directory.load_experiment(epath.Path(run_dir))
    if stored is None:
        name = Path(run_dir).name
        config = name if name in list_configs() else "CONFIG"
        raise UserError(
            f"{who} needs the run {run_dir}, which is not there; "
            f"make it: python -m genjax train {config} --run-dir {run_dir}"
        )
    return stored


def check_tokens(others: Mapping[str, Trained], data: Dataset) -> None:
    """Refuse other runs, if they exist, whose tokens are not those of the data."""
    for role, other in others.items():
        folder = epath.Path(other.run_dir).expanduser()
        if (
            None in (other.spec.vocabulary, data.spec.vocabulary)
            or not (folder / "codec.json").exists()
        ):
            continue
        if get_tokenizer(codec := directory.load_codec(folder)[1]) != get_tokenizer(data.codec):
            raise UserError(
                f"the tokens of {other.run_dir} are not those of these data: their codecs differ"
            )
        if role != "base":  # its template is compared when data are opened
            note_template(data.codec, codec, other.run_dir)


def load_family(run_dir: str | Path) -> Any:
    """Return the resolved family with which a run is evaluated and sampled."""
    stored, folder = directory.require_experiment(run_dir), epath.Path(run_dir).expanduser()
    if not wrap_family(stored.family).runs:
        return stored.family
    return wrap_family(resolve(stored, directory.load_codec(folder)[0], folder)[0].family).wrapped


def initial_state(
    experiment: Experiment, spec: Spec, others: Mapping[str, Trained] | None = None
) -> Any:
    """Return a function without arguments that makes the random state of step 0.

    With ``others``, ``frozen`` has arrays of their shapes, for targets of a restore.
    """
    return functools.partial(_initial_state, experiment, spec, others or {})


def _initial_state(experiment: Experiment, spec: Spec, others: Mapping[str, Trained]) -> State:
    init_key, base_key = jax.random.split(jax.random.key(experiment.seed))
    params, variables = experiment.family.init(init_key, make_example(spec), spec)
    state = init_state(params, variables, update_rule(experiment), base_key)
    if not others:
        return state
    made = {
        role: other.family.init(init_key, make_example(other.spec), other.spec)
        for role, other in others.items()
    }
    return state.replace(
        frozen={role: {"params": p, "variables": v} for role, (p, v) in made.items()}
    )


def update_rule(experiment: Experiment) -> Any:
    """Return the built optimizer, or one for each part of the family."""
    return experiment.optimizer.build(
        experiment.steps, experiment.ema, jnp.dtype(experiment.precision)
    )


def make_step(experiment: Experiment, rules: Rules = None) -> Any:
    """Return ``step(state, batch, axis) -> state, PackedMetrics``: augmentations, then the family's
    train step.

    Args:
      experiment: the experiment.
      rules: built optimizer; None for the experiment's own.
    """
    rule = update_rule(experiment) if rules is None else rules

    def step(state: State, batch: Any, axis: str | None) -> tuple[State, PackedMetrics]:
        key = jax.random.fold_in(state.step_key, AUGMENT)
        if axis is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        for number, augment in enumerate(experiment.augment):
            batch = augment(jax.random.fold_in(key, number), batch)
        state, metrics = experiment.family.train_step(state, batch, optimizer=rule, axis=axis)
        return state, PackedMetrics.of(metrics)

    return step
