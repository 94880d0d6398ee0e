"""Trained runs: what ``sample``, ``evaluate`` and other runs start from."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from genjax import checks, parallel
from genjax import experiment as experiments
from genjax import start_from as starting
from genjax.data.dataset import Codec, Dataset, Spec
from genjax.data.text.codecs import written
from genjax.data.text.dataset import note_template, open_as, tokens_of
from genjax.errors import UserError, unknown
from genjax.evaluation.judge import Evaluator, Model, Report, Subject, held_out_metrics, in_chunks, judge, sampled
from genjax.experiment import Experiment
from genjax.family import State, Trained, example_of, init_state
from genjax.runs import directory as records
from genjax.runs import lineage
from genjax.runs.checkpoint import Checkpoints
from genjax.serial.trust import Trust, trusting

# Numbers folded into the base key where others fold in a step; no run comes that far.
EVALUATION, SAMPLES, EVALUATORS = 2**32 - 1, 2**32 - 2, 2**32 - 3


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

    def sample(
        self, num: int = 64, seed: int = 0, options: Any = None, show: Callable[[str], None] | None = None
    ) -> np.ndarray:
        """``num`` samples in model space.

        Args:
          num: how many.
          seed: of the draws.
          options: the family's own sampler by default.
          show: takes pieces of text, which together are what a file of the samples holds: the first text as it is
            drawn, the others, which are drawn beside it, after it. None draws without a stop.
        """
        if num < 1:
            raise UserError(f"num must be at least 1, got {num}", "num")
        checks.fits(4.0 * num * math.prod(self.spec.shape), f"{num:,} samples", "num")
        family = self.experiment.family.plain
        if family.no_samples is not None:
            raise UserError(family.no_samples)
        key = jax.random.fold_in(jax.random.key(seed), SAMPLES)
        options, state = self._prepared(options or family.sampler)
        if show is None:
            samples = sampled(self.layout, family, state, key, num, options)
            return family.finished(samples, options, self.codec)
        if family.stream is None:
            raise UserError(f"a {type(family).__name__} does not draw text a token at a time: there is no stream")
        told: list[str] = []

        def heard(text: str) -> None:
            told.append(text)
            show(text)

        def silent(text: str) -> None:
            pass

        def draw(key: jax.Array, size: int) -> np.ndarray:
            return family.stream(state, key, size, options, self.codec, silent if told else heard)

        samples = family.finished(in_chunks(draw, key, num), options, self.codec)
        whole, heard_so_far = written(self.codec, samples), "".join(told)
        show(whole.removeprefix(heard_so_far) if whole.startswith(heard_so_far) else f"\n{whole}")
        return samples

    def _prepared(self, options: Any) -> tuple[Any, State]:
        """The options as the model reads them, and the state to draw from, with the arrays of ``sampler_runs``."""
        family, state = self.experiment.family.plain, self.experiment.family.judged(self.state)
        others: dict[str, Trained] = {}
        arrays: dict[str, Any] = {}
        for role, run_dir in family.sampler_runs(options).items():
            _there(run_dir, f"sampler.{role}")
            run = load(run_dir, layout=self.layout)
            if tokens_of(run.codec) != tokens_of(self.codec):
                raise UserError(f"the {role} {run_dir} has another codec: its tokens are not those of {self.run_dir}")
            other = run.experiment.family.judged(run.state)
            others[role] = Trained(run_dir, run.experiment.family.plain, run.experiment.family.plain_spec(run.spec))
            arrays[role] = {"params": other.params, "variables": other.variables}
        if arrays:
            state = state.replace(frozen={**(state.frozen or {}), **arrays})
        return family.prepared(options, self.codec, others or None), state

    def write_samples(
        self,
        out: Path | None = None,
        num: int = 64,
        seed: int = 0,
        options: Any = None,
        show: Callable[[str], None] | None = None,
    ) -> Path:
        """``sample`` in the form that a person opens, beside ``out`` or under ``samples/``; returns the path."""
        return self.write(self.sample(num, seed, options, show), out, seed)

    def write(self, samples: np.ndarray, out: str | Path | None = None, seed: int = 0, chosen: Any = None) -> Path:
        """Samples as ``write_samples`` does; ``lineage.jsonl`` says where each file is from, see ``lineage.noted``."""
        name = f"{self.step:08d}_seed_{seed}" + (f"_best_of_{chosen['best_of']}" if chosen else "")
        stem = _without_suffix(epath.Path(out).expanduser()) if out else self.run_dir / "samples" / name
        stem.parent.mkdir(parents=True, exist_ok=True)
        return lineage.noted(self.run_dir, self.step, seed, stem, lambda: self.codec.write(samples, stem), chosen)

    def evaluate(self, split: str = "test") -> Report:
        """The family's metrics over the whole split and the findings of all of the config's evaluators."""
        others = needed(self.experiment.evaluators, self.layout)
        data = opened(self.experiment, self.run_dir)
        records.check_data(self.run_dir, data)
        if split not in data.splits:
            raise unknown("split", split, data.splits)
        return Judge.of(self.experiment, self.layout, data, self.experiment.evaluators, others)(self.state, split)

    def model(self) -> Model:
        """What is judged, and what evaluators of other runs look at."""
        return model(self.experiment, self.state, self.spec, self.codec, f"run {self.run_dir}, ")


def _without_suffix(out: epath.Path) -> epath.Path:
    """A codec adds the suffix of what it writes; no more than those is cut, as of "step_1.5"."""
    return out.with_suffix("") if out.suffix in lineage.WRITTEN else out


def model(experiment: Experiment, state: State, spec: Spec, codec: Codec, prefix: str = "") -> Model:
    """A state as evaluators see it."""
    averaged = "averaged (EMA) parameters" if state.ema is not None else "parameters"
    origin = f"{prefix}step {int(state.step)}, {averaged}, seed {experiment.seed}"
    return Model(experiment.family.plain, experiment.family.judged(state), spec, codec, origin)


def needed(evaluators: Sequence[Evaluator], layout: parallel.Layout) -> dict[str, Model]:
    """The runs that evaluators need, loaded onto the same devices.

    Raises:
      UserError: one is missing; the message says which command makes it.
    """
    found: dict[str, Model] = {}
    for evaluator in evaluators:
        for run_dir in evaluator.runs:
            _there(run_dir, type(evaluator).__name__)
            found[run_dir] = load(run_dir, layout=layout).model()
    return found


def continued(experiment: Experiment) -> str | None:
    """The run whose model this one goes on with; None where it begins with a random one."""
    return experiment.start_from.run or experiment.family.runs.get("base")


def opened(experiment: Experiment, run_dir: epath.Path | None = None) -> Dataset:
    """The data, opened. Text of a codec without a vocabulary is read by that of the run that this one goes on with.

    Args:
      run_dir: of this run; what it has kept of its codec comes before that of the other run, which may be gone.
    """
    base = continued(experiment)
    for place in () if base is None else filter(None, (run_dir, base)):
        folder = epath.Path(place).expanduser()
        if (folder / "codec.json").exists():
            spec, codec = records.stored_codec(folder)
            if spec.vocabulary is None:
                break
            return open_as(experiment.data, codec, str(folder) if place is base else None)
    return experiment.data.open()


def resolved(
    experiment: Experiment, spec: Spec, run_dir: epath.Path | None = None
) -> tuple[Experiment, Mapping[str, Trained]]:
    """The experiment with other families in the place of the runs that its own stands on, and these by role.

    What ``run_dir`` has kept of them comes before the runs themselves, so that they may be gone or have gone on.

    Raises:
      UserError: one is missing or does not fit; the message says which command makes it.
    """
    others = None if run_dir is None else records.kept_others(run_dir)
    if others is None:
        name = type(experiment.family).__name__
        others = {role: _trained(path, name) for role, path in experiment.family.runs.items()}
    if not others:
        return experiment, {}
    return dataclasses.replace(experiment, family=experiment.family.on(others, spec)), others


def _trained(run_dir: str, who: str) -> Trained:
    stored, folder = _there(run_dir, who), epath.Path(run_dir).expanduser()
    spec = records.stored_codec(folder)[0]
    family = resolved(stored, spec, folder)[0].family
    if family.plain.runs:
        raise UserError(f"the run {run_dir} stands on other runs itself: {who} cannot stand on it")
    return Trained(run_dir, family.plain, family.plain_spec(spec))


def _there(run_dir: str, who: str) -> Experiment:
    """The experiment of a run that ``who`` needs."""
    stored = records.stored_experiment(epath.Path(run_dir))
    if stored is None:
        name = Path(run_dir).name
        config = name if name in experiments.known_configs() else "CONFIG"
        raise UserError(
            f"{who} needs the run {run_dir}, which is not there; "
            f"make it: python -m genjax train {config} --run-dir {run_dir}"
        )
    return stored


def check_tokens(others: Mapping[str, Trained], data: Dataset) -> None:
    """Refuse other runs, as far as they are there, whose tokens are not those of the data, with a ``UserError``."""
    for role, other in others.items():
        folder = epath.Path(other.run_dir).expanduser()
        if None in (other.spec.vocabulary, data.spec.vocabulary) or not (folder / "codec.json").exists():
            continue
        if tokens_of(codec := records.stored_codec(folder)[1]) != tokens_of(data.codec):
            raise UserError(f"the tokens of {other.run_dir} are not those of these data: their codecs differ")
        if role != "base":  # whose template is compared where data are opened
            note_template(data.codec, codec, other.run_dir)


def family_of(run_dir: str | Path) -> Any:
    """The family that a run is judged and sampled as, with others in the place of the runs that it stands on."""
    stored, folder = records.experiment_of(run_dir), epath.Path(run_dir).expanduser()
    if not stored.family.runs:
        return stored.family
    return resolved(stored, records.stored_codec(folder)[0], folder)[0].family.plain


def borrowed(others: Mapping[str, Trained], layout: parallel.Layout, target: Any) -> Any:
    """``State.frozen``: the arrays of other runs, loaded to the places of ``target``; None without others."""
    if not others:
        return None
    loaded = {role: load(other.run_dir, layout=layout).model().state for role, other in others.items()}
    arrays = {role: {"params": state.params, "variables": state.variables} for role, state in loaded.items()}
    return jax.tree.map(lambda x, place: jax.device_put(x, place.sharding), arrays, target)


def begun(
    state: State, experiment: Experiment, data: Dataset, layout: parallel.Layout
) -> tuple[State, tuple[str, ...]]:
    """A state of step 0 with the parameters of ``start_from`` in it, and the lines that tell which they are.

    Raises:
      UserError: that run is missing, does not fit, or its tokens are not those of the data.
    """
    start = experiment.start_from
    if start.run is None:
        return state, ()
    _there(start.run, "start_from")
    run = load(start.run, best=start.best, layout=layout)
    if None not in (data.spec.vocabulary, run.spec.vocabulary) and tokens_of(run.codec) != tokens_of(data.codec):
        raise UserError(f"the tokens of {start.run} are not those of these data: their codecs differ")
    learned = run.experiment.family.judged(run.state)
    found = starting.begun(state.params, learned.params, start)
    variables = starting.carried(state.variables, learned.variables, start)

    def placed(tree: Any, like: Any) -> Any:
        return jax.tree.map(lambda x, place: jax.device_put(x, place.sharding), tree, like)

    params = placed(found.params, state.params)
    ema = None if state.ema is None else {name: jax.tree.map(jnp.copy, params[name]) for name in state.ema}
    state = state.replace(params=params, ema=ema, variables=placed(variables, state.variables))
    return state, found.told(f"{start.run}, step {run.step}")


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
            evaluator.check(experiment.family.examiner, data.spec, others)
        compiled = layout.compile_evaluation(experiment.family.examiner.evaluate)
        return cls(experiment, layout, data, evaluators, others, compiled)

    def __call__(self, state: State, split: str) -> Report:
        judged = model(self.experiment, state, self.data.spec, self.data.codec)
        judged = dataclasses.replace(judged, family=self.experiment.family.examiner)
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
    trust: Trust = False,
) -> Run:
    """Load a run, also one that was copied from another machine or made on other devices.

    Args:
      step: the checkpoint to take; None for the newest.
      best: take the best by ``keep.best`` instead.
      devices: one device by default.
      layout: devices that are arranged already, instead.
      trust: True to run the code that the run's files name, or the modules that may; see docs/safety.md.
    """
    folder = epath.Path(run_dir).expanduser()
    with trusting(trust):
        stored = records.experiment_of(folder)
        spec, codec = records.stored_codec(folder)
        experiment, others = resolved(stored, spec, folder)
    experiment = dataclasses.replace(experiment, family=experiment.family.knowing(codec))
    layout = layout or parallel.start(devices or parallel.Devices(count=1))
    with Checkpoints(folder, experiment.keep, read_only=True) as checkpoints:
        wanted = checkpoints.best_step() if best else step
        if best and wanted is None:
            raise UserError(f"no checkpoint of {run_dir} has been scored by {experiment.keep.best!r}")
        if wanted is not None and wanted not in checkpoints.steps():
            raise UserError(f"{run_dir} has no checkpoint {wanted}, but {checkpoints.steps()}")
        restored = checkpoints.restore(layout.abstract(initial_state(experiment, spec, others)), wanted)
    if restored is None:
        raise UserError(f"{run_dir} has no checkpoint yet")
    state, _ = restored
    return Run(experiment, folder, int(state.step), state, spec, codec, layout)


def initial_state(experiment: Experiment, spec: Spec, others: Mapping[str, Trained] | None = None) -> Any:
    """A function without arguments that makes the state of step 0.

    Given the families that it stands on, ``frozen`` has their shapes and random numbers: for targets of a restore.
    """
    return functools.partial(_initial_state, experiment, spec, others or {})


def _initial_state(experiment: Experiment, spec: Spec, others: Mapping[str, Trained]) -> State:
    init_key, base_key = jax.random.split(jax.random.key(experiment.seed))
    params, variables = experiment.family.init(init_key, example_of(spec), spec)
    state = init_state(params, variables, update_rule(experiment), base_key)
    if not others:
        return state
    made = {role: other.family.init(init_key, example_of(other.spec), other.spec) for role, other in others.items()}
    return state.replace(frozen={role: {"params": p, "variables": v} for role, (p, v) in made.items()})


def update_rule(experiment: Experiment) -> Any:
    """The built optimizer, or one for each part of the family."""
    return experiment.optimizer.build(experiment.steps, experiment.ema, jnp.dtype(experiment.precision))
