"""``Experiment``: everything that defines a run, composed in one frozen dataclass."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Literal

from genjax import checks
from genjax.checks import MAX_SEED, Component
from genjax.continued import wrap_family
from genjax.errors import UserError
from genjax.optim import Adam
from genjax.parallel import Devices
from genjax.start_from import StartFrom

FAMILIES = "VAE(), GAN(), Diffusion(), Autoregressive() or Classifier()"
SOURCES = "ImageFolder(...), TextFiles(...), Table(...) or TFDS(...)"


@checks.frozen
class Every:
    """Intervals of events, in steps; 0 for never. Events that are not 0 also happen at the last
    step.

    Attributes:
      log: row of metrics: means since the last row, and the current learning rate.
      evaluate: evaluation on the held-out split, with evaluators.
      sample: picture or file of samples, if the family draws any.
      checkpoint: all that is needed to resume; also written at the last step and when stopped, even
          with 0.
    """

    log: int = 50
    evaluate: int = 1000
    sample: int = 1000
    checkpoint: int = 1000

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "log", "evaluate", "sample", "checkpoint")


@checks.frozen
class Keep:
    """Which checkpoints are kept.

    Attributes:
      newest: number of newest checkpoints.
      best: evaluation metric whose best checkpoint is also kept; None for none.
      larger_is_better: whether larger values of that metric are better.
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
      family: model and how it learns.
      data: source of examples.
      optimizer: an ``Optimizer``, or for a family with parts a dataclass of several, such as
        ``Players``.
      augment: functions of (key, batch), applied in this order in the compiled step; set in a
        config file.
      curriculum: changes of the data over the steps, such as ``Resolutions`` or ``ByDifficulty``;
        None for none.
      steps: number of train steps.
      batch_size: examples per step, over all devices and processes.
      seed: random seed of the parameters, the noise and the order of the data.
      precision: dtype that networks compute in while training; parameters, losses and optimizer
        state are always float32, as are evaluation and samples.
      ema: decay of the averaged parameters used for evaluation and samples; None for no average.
      evaluators: measurements and pictures besides the family's own metrics; set in a config file.
      every: intervals of logging, evaluation, samples and checkpoints.
      keep: checkpoints to keep.
      devices: devices to run on.
      steps_per_dispatch: steps in one compiled call; more hide the host's overhead for small steps.
      workers: processes that read data too large for memory; 0 for threads.
      start_from: another run whose parameters this one starts with.
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
        # On the command line, an empty one would take any word.
        for name in ("augment", "evaluators"):
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
        """Refuse changes of examples that the family has already seen unchanged."""
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
        """Refuse intervals that would end within a dispatch."""
        intervals: dict[str, int] = {}
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
    """Return the directories of the runs that an experiment needs before its first step, by role:
    those of its family, its ``start_from``, and its curriculum.
    """
    start, curriculum = experiment.start_from, experiment.curriculum
    found = {f"family.{role}": run for role, run in wrap_family(experiment.family).runs.items()}
    if start.run is not None:
        found["start_from"] = start.run
    score = None if curriculum is None else curriculum.score
    scorers = () if score is None else score.runs
    return found | {f"curriculum.{number}": run for number, run in enumerate(scorers)}
