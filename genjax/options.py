"""The options of each command: frozen dataclasses, whose docstrings are the texts of ``--help``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from genjax import checks, exports
from genjax.experiment import MAX_SEED, Experiment
from genjax.parallel import Devices
from genjax.tracking import Tracking


@checks.frozen
class TrainOptions:
    """Train a config.

    Attributes:
      experiment: the config's fields.
      run_dir: where everything is written; runs/NAME by default.
      from_: the run to go on with in the place of the config's, or a model in Hugging Face's layout: a folder, or a
        name at the hub.
      max_minutes: save and stop after so long; the same command goes on.
      tracking: with MLflow.
      tiny: the config's small form, for a first look.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    run_dir: str | None = None
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    max_minutes: float | None = None
    tracking: Tracking = Tracking()
    tiny: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "max_minutes")


@checks.frozen
class ConfigOptions:
    """A config.

    Attributes:
      experiment: the config's fields.
      tiny: the config's small form, for a first look.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    tiny: bool = False


@checks.frozen
class ExportOptions:
    """Write a run as files that others read.

    Attributes:
      to: "safetensors" and config; "jax", these and the sampling function; "huggingface", what transformers opens.
      out: the folder; export/TO under the run directory by default.
      num: samples that the function draws.
      best: the best checkpoint instead of the newest.
    """

    to: exports.Form = "jax"
    out: str | None = None
    num: int = 64
    best: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "num")


@checks.frozen
class SamplingExportOptions(ExportOptions):
    """Write a run as files that others read.

    Attributes:
      sampler: of the sampling function.
    """

    sampler: Any = None


@checks.frozen
class EvaluateOptions:
    """Judge a run.

    Attributes:
      data: the run's own; its root may be another on this machine.
      evaluators: the run's own, with their settings.
      devices: on what to judge; one device by default.
      split: of the data, to judge on.
      best: the best checkpoint instead of the newest.
    """

    data: Any
    evaluators: tuple[Any, ...] = ()
    devices: Devices = Devices(count=1)
    split: str = "test"
    best: bool = False


@checks.frozen
class CompareOptions:
    """Compare run B with run A.

    Attributes:
      reward: the run of a reward model that judges texts, or a Python function as "module:function"; without one no
        winner is told.
      prompt: what texts answer; given several times, they take the prompts in turn. Without one those of held-out
        conversations of B's data.
      num: samples of each.
      seed: of the draws.
      split: of B's data, whose prompts are taken.
      out: the folder to write to; compare/NAME_OF_A under B's run directory by default.
    """

    reward: str | None = None
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    num: int = 64
    seed: int = 0
    split: str = "test"
    out: str | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "num")
        checks.between(self, 0, MAX_SEED, "seed")


@checks.frozen
class ShowRunOptions:
    """Show a run. It is what it was trained as: there is nothing about it to set.

    Attributes:
      lineage: instead where it comes from: its data with their raw files, and the runs that it stands on with theirs.
    """

    lineage: bool = False


@dataclass(frozen=True)
class ShowSamplesOptions:
    """Show where a file of samples comes from. There is nothing to set."""
