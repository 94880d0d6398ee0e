"""Load trained runs for ``sample``, ``evaluate`` and other runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath

from genjax import checks, parallel
from genjax.checks import Component
from genjax.continued import wrap_family
from genjax.data.dataset import Codec, Spec
from genjax.data.text.codecs import format_samples
from genjax.data.text.dataset import get_tokenizer
from genjax.errors import UserError, unknown_name
from genjax.evaluation.drawing import draw_finished, map_chunks
from genjax.evaluation.judge import SAMPLES, Evaluator, Judge, Model, Report, make_model
from genjax.experiment import Experiment
from genjax.family import State, Trained, require_samples
from genjax.runs import lineage
from genjax.runs.checkpoint import Checkpoints
from genjax.runs.judged_set import open_judged
from genjax.runs.setup import Setup, require_run, set_up_stored
from genjax.samplers.options import decode_samples, encode_options, needed_runs, number_labels
from genjax.serial.json_text import Json
from genjax.serial.trust import Trust, allow


@runtime_checkable
class Streams(Protocol):
    """A family that can generate text token by token."""

    def stream(
        self,
        state: State,
        key: jax.Array,
        n: int,
        options: Component,
        codec: Component,
        show: Callable[[str], None],
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class Run:
    """A loaded run.

    Attributes:
      experiment: experiment of the run.
      run_dir: directory of the run.
      step: step of the loaded checkpoint.
      state: full state; ``eval_state`` is the part to evaluate.
      spec: spec of the training data.
      codec: codec of the data.
      layout: devices that hold the state.
    """

    experiment: Experiment
    run_dir: epath.Path
    step: int
    state: State
    spec: Spec
    codec: Codec
    layout: parallel.Layout

    @property
    def family(self) -> Any:
        """The family that is evaluated, sampled and exported."""
        return wrap_family(self.experiment.family).wrapped

    @property
    def eval_state(self) -> State:
        """State for evaluation, with averaged parameters if there are any."""
        return wrap_family(self.experiment.family).eval_state(self.state)

    def sample(
        self,
        num: int = 64,
        seed: int = 0,
        options: Component = None,
        show: Callable[[str], None] | None = None,
    ) -> np.ndarray:
        """Draw ``num`` samples in model space.

        Args:
          num: number of samples.
          seed: seed of the samples.
          options: options of the sampler; None for the family's own.
          show: function called with pieces of text, which together make up the file of samples: the
            first text while it is generated, then the others. None generates all at once.
        """
        if num < 1:
            raise UserError(f"num must be at least 1, got {num}", "num")
        checks.check_size(4.0 * num * math.prod(self.spec.shape), f"{num:,} samples", "num")
        family = self.family
        require_samples(family)
        key = jax.random.fold_in(jax.random.key(seed), SAMPLES)
        options, state = self.prepare_drawing(options or family.sampler)
        if show is None:
            return draw_finished(self.layout, family, state, key, num, options, self.codec)
        if not isinstance(family, Streams):
            raise UserError(
                f"a {type(family).__name__} cannot stream: it does not generate text token by token"
            )
        pieces: list[str] = []

        def remember(text: str) -> None:
            pieces.append(text)
            show(text)

        def silent(text: str) -> None:
            pass

        def draw(key: jax.Array, size: int) -> np.ndarray:
            return family.stream(
                state, key, size, options, self.codec, silent if pieces else remember
            )

        samples = decode_samples(map_chunks(draw, key, num), options, self.codec)
        whole, shown = format_samples(self.codec, samples), "".join(pieces)
        show(whole.removeprefix(shown) if whole.startswith(shown) else f"\n{whole}")
        return samples

    def prepare_drawing(self, options: Component) -> tuple[Any, State]:
        """Return the encoded options, and the state to sample from, with the arrays of
        ``needed_runs``.
        """
        options = number_labels(options, self.spec.class_names, self.spec.classes)
        state = self.eval_state
        others: dict[str, Trained] = {}
        arrays: dict[str, Json] = {}
        for role, run_dir in needed_runs(options).items():
            require_run(run_dir, f"sampler.{role}")
            try:
                run = load(run_dir, layout=self.layout)
            except UserError as error:
                raise UserError(f"sampler.{role}: {error}", f"sampler.{role}") from None
            if get_tokenizer(run.codec) != get_tokenizer(self.codec):
                raise UserError(
                    f"the {role} {run_dir} has another codec: its tokens are not those of "
                    f"{self.run_dir}"
                )
            other = run.eval_state
            others[role] = Trained(
                run_dir, run.family, wrap_family(run.experiment.family).wrapped_spec(run.spec)
            )
            arrays[role] = {"params": other.params, "variables": other.variables}
        if arrays:
            state = state.replace(frozen={**(state.frozen or {}), **arrays})
        return encode_options(options, self.codec, others), state

    def write_samples(
        self,
        out: Path | None = None,
        num: int = 64,
        seed: int = 0,
        options: Component = None,
        show: Callable[[str], None] | None = None,
    ) -> Path:
        """Draw samples and write them beside ``out`` or under ``samples/``; return the path."""
        return self.write(self.sample(num, seed, options, show), out, seed)

    def write(
        self, samples: np.ndarray, out: str | Path | None = None, seed: int = 0, chosen: Any = None
    ) -> Path:
        """Write samples like ``write_samples``; ``lineage.jsonl`` records the origin of each file,
        see ``lineage.record_samples``.
        """
        name = f"{self.step:08d}_seed_{seed}" + (f"_best_of_{chosen['best_of']}" if chosen else "")
        stem = (
            _strip_suffix(epath.Path(out).expanduser()) if out else self.run_dir / "samples" / name
        )
        stem.parent.mkdir(parents=True, exist_ok=True)
        return lineage.record_samples(
            self.run_dir, self.step, seed, stem, lambda: self.codec.write(samples, stem), chosen
        )

    def evaluate(self, split: str = "test", data: Component = None) -> Report:
        """Return the family's metrics over the whole split, and the results of the config's
        evaluators.

        Args:
          split: split to evaluate; "all" for every example of another set.
          data: another source than the run's, opened in the form of the run's data; its title and
            fingerprint are in the protocol of each number.

        Raises:
          UserError: there is no such split, or the set does not fit the run.
        """
        others = load_models(self.experiment.evaluators, self.layout)
        judged = open_judged(self.experiment, self.run_dir, (self.spec, self.codec), split, data)
        if split not in judged.data.splits:
            raise unknown_name("split", split, judged.names)
        judge = Judge.of(
            self.experiment, self.layout, judged.data, self.experiment.evaluators, others
        )
        found = dataclasses.replace(judge, title=judged.protocol)(self.state, split)
        return dataclasses.replace(
            found,
            remarks=(*judged.remarks, *found.remarks),
            data=judged.title,
            fingerprint=judged.data.fingerprint,
        )

    def model(self) -> Model:
        """The model that evaluators get, also those of other runs."""
        return make_model(
            self.experiment, self.state, self.spec, self.codec, f"run {self.run_dir}, "
        )


def _strip_suffix(out: epath.Path) -> epath.Path:
    """Drop a suffix that a codec would add when it writes, but not ".5" of "step_1.5"."""
    return out.with_suffix("") if out.suffix in lineage.WRITTEN else out


def load_models(evaluators: Sequence[Evaluator], layout: parallel.Layout) -> dict[str, Model]:
    """Load the runs that evaluators need onto the same devices.

    Raises:
      UserError: a run is missing; the message says which command makes it.
    """
    found: dict[str, Model] = {}
    for evaluator in evaluators:
        for run_dir in evaluator.runs:
            require_run(run_dir, type(evaluator).__name__)
            found[run_dir] = load(run_dir, layout=layout).model()
    return found


def make_judge(setup: Setup) -> Judge:
    """Build the judge of a run in training, with the runs that its evaluators need.

    Raises:
      UserError: a run is missing, or an evaluator does not fit the family or the data.
    """
    experiment, layout = setup.experiment, setup.layout
    chosen = tuple(
        e for e in experiment.evaluators if e.while_training and experiment.every.evaluate
    )
    return Judge.of(experiment, layout, setup.data, chosen, load_models(chosen, layout))


def load(
    run_dir: str | Path,
    step: int | None = None,
    best: bool = False,
    devices: parallel.Devices | None = None,
    layout: parallel.Layout | None = None,
    trust: Trust = False,
) -> Run:
    """Load a run, also one copied from another machine or trained on other devices.

    Args:
      run_dir: the run directory.
      step: step of the checkpoint; None for the newest.
      best: whether to load the best checkpoint by ``keep.best`` instead.
      devices: devices to use; None for one device.
      layout: devices that are already arranged, instead of ``devices``.
      trust: whether to run the code that the run's files name, or a list of allowed modules; see
        docs/safety.md.
    """
    folder = epath.Path(run_dir).expanduser()
    layout = layout or parallel.start(devices or parallel.Devices(count=1))
    with allow(trust):
        setup = set_up_stored(folder, layout)
    experiment = setup.experiment
    with Checkpoints(folder, experiment.keep, read_only=True) as checkpoints:
        wanted = checkpoints.find_best_step() if best else step
        if best and wanted is None:
            raise UserError(
                f"best: no checkpoint of {run_dir} has been scored by {experiment.keep.best!r}",
                "best",
            )
        if wanted is not None and wanted not in checkpoints.list_steps():
            raise UserError(f"{run_dir} has no checkpoint {wanted}, but {checkpoints.list_steps()}")
        restored = checkpoints.restore(setup.target, wanted)
    if restored is None:
        raise UserError(f"{run_dir} has no checkpoint yet")
    state, _ = restored
    return Run(
        experiment, folder, int(state.step), state, setup.data.spec, setup.data.codec, layout
    )
