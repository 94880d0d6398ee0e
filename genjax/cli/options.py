"""The options of each command: frozen dataclasses, whose docstrings are shown by ``--help``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from genjax import checks
from genjax.checks import MAX_SEED, Component
from genjax.experiment import Experiment
from genjax.parallel import Devices
from genjax.runs import export as exports
from genjax.runs.tracking import Tracking


@checks.frozen
class TrainOptions:
    """Train a config.

    Attributes:
      experiment: fields of the config.
      run_dir: folder that everything is written to; runs/NAME by default.
      from_: run to continue from instead of the config's, or a Hugging Face model: a folder, or a
        name at the hub.
      max_minutes: save and stop after this many minutes; the same command resumes.
      tracking: tracking of the run with MLflow.
      store: store that gets the responses drawn by PPO or GRPO with their rewards, see
        docs/store.md.
      tiny: use the small form of the config, for a first look.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    run_dir: str | None = None
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    max_minutes: float | None = None
    tracking: Tracking = Tracking()
    store: str | None = None
    tiny: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "max_minutes")


@checks.frozen
class ConfigOptions:
    """A config.

    Attributes:
      experiment: fields of the config.
      tiny: use the small form of the config, for a first look.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    tiny: bool = False


@checks.frozen
class ExportOptions:
    """Export a run for other programs.

    Attributes:
      to: "safetensors" with the config; "jax" for these and the sampling function; "huggingface"
        for transformers; "peft" for the adapters of a LoRA run.
      out: folder to write to; export/TO in the run directory by default.
      num: number of samples that the function draws.
      best: use the best checkpoint instead of the newest.
    """

    to: exports.Form = "jax"
    out: str | None = None
    num: int = 64
    best: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "num")


@checks.frozen
class SamplingExportOptions(ExportOptions):
    """Export a run for other programs.

    Attributes:
      sampler: options of the sampler.
    """

    sampler: Component = None


@checks.frozen
class EvaluateOptions:
    """Evaluate a run.

    Attributes:
      data: data set to evaluate on; by default the run's own. Another file, pattern or root is read
        with the run's tokens, columns, sizes and classes.
      evaluators: evaluators of the run, whose settings may be changed, but not their kind.
      devices: devices to use; one by default.
      split: split to evaluate on; "all" for every example of another set than the run's.
      best: use the best checkpoint instead of the newest.
      store: store that gets the numbers as feedback on the checkpoint, with the samples that
        evaluators used, see docs/store.md.
    """

    data: Component
    evaluators: tuple[Component, ...] = ()
    devices: Devices = Devices(count=1)
    split: str = "test"
    best: bool = False
    store: str | None = None


@checks.frozen
class CompareOptions:
    """Compare run B with run A.

    Attributes:
      reward: run of a reward model for texts, or a Python function "module:function"; without one
        there is no win rate.
      prompt: prompt for texts; several are used in turn. By default those of held-out conversations
        of B's data.
      num: number of samples of each run.
      seed: random seed of the samples.
      split: split of B's data whose prompts are used.
      out: folder to write to; compare/NAME_OF_A in B's run directory by default.
      store: store that gets both runs' samples with their rewards and preferences, see
        docs/store.md.
    """

    reward: str | None = None
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    num: int = 64
    seed: int = 0
    split: str = "test"
    out: str | None = None
    store: str | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "num")
        checks.between(self, 0, MAX_SEED, "seed")


@checks.frozen
class ShowRunOptions:
    """Show a run. Its config cannot be changed here.

    Attributes:
      lineage: show its origin instead: its data with their raw files, and the runs that it depends
        on with theirs.
    """

    lineage: bool = False


@dataclass(frozen=True)
class ShowSamplesOptions:
    """Show where a file of samples comes from. It has no options."""
