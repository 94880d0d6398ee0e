"""The options of each command: frozen dataclasses, whose docstrings are the texts of ``--help``."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from genjax import checks
from genjax.checks import Component
from genjax.errors import UserError
from genjax.experiment import MAX_SEED, Experiment
from genjax.parallel import Devices
from genjax.runs import export as exports
from genjax.runs.tracking import Tracking


def parse(default: Any, command: str, arguments: Sequence[str]) -> Any:
    """Return the options of a command, from ``default`` and what is written.

    Options change fields, never the type of a component.

    Raises:
      UserError: an option that does not exist, or a value that it cannot have, in one line.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                type(default),
                default=default,
                args=list(arguments),
                prog=f"genjax {command}",
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(_join_lines(said.getvalue()), "options") from None


@contextlib.contextmanager
def explain_store() -> Iterator[None]:
    """Say which extra brings a package of the store that is missing.

    Raises:
      UserError: with "store" as its field.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("genjax"):
            raise
        cure = "pip install 'genjax-train[store]'"
        raise UserError(f"store: the package {error.name} is missing: {cure}", "store") from None


def _join_lines(box: str) -> str:
    """What a box of lines says, in one line: its first part, and the option that was meant."""
    rule = re.compile(r"[─━-]{8,}")
    lines = [re.sub(r"^[│┃╭╰\s]+|[│┃╮╯\s]+$", "", line) for line in box.splitlines()]
    parts: list[list[str]] = [[]]
    kept = lines[1:] if len(lines) > 1 else lines
    for line in kept:
        if rule.search(line):
            parts.append([])
        elif line:
            parts[-1].append(line)
    whole = [part for part in parts if part] or [lines]
    first = " ".join(whole[0])
    meant = next((part[1] for part in whole[1:] if part[0].startswith("Perhaps")), None)
    return first if meant is None else f"{first}; did you mean {meant.split()[0]}?"


@checks.frozen
class TrainOptions:
    """Train a config.

    Attributes:
      experiment: the config's fields.
      run_dir: the folder that everything is written to; runs/NAME by default.
      from_: the run to continue from instead of the config's, or a model in Hugging Face's layout:
        a folder, or a name at the hub.
      max_minutes: save and stop after this many minutes; the same command resumes.
      tracking: of the run with MLflow.
      store: a store of records that the responses which PPO or GRPO draws are written to, with
        their rewards, see docs/store.md.
      tiny: the config's small form, for a first look.
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
      experiment: the config's fields.
      tiny: the config's small form, for a first look.
    """

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    tiny: bool = False


@checks.frozen
class ExportOptions:
    """Write a run as files that others read.

    Attributes:
      to: "safetensors" and config; "jax", these and the sampling function; "huggingface", what
        transformers opens.
      out: the folder to write to; export/TO under the run directory by default.
      num: number of samples that the function draws.
      best: take the best checkpoint instead of the newest.
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
      sampler: how the function draws.
    """

    sampler: Component = None


@checks.frozen
class EvaluateOptions:
    """Judge a run.

    Attributes:
      data: the set to judge on; by default what the run was trained on. Of another file, pattern or
        root the examples are read in the run's tokens, columns, sizes and classes.
      evaluators: those of the run, whose settings may be changed; others cannot be named here.
      devices: the devices to judge on; one by default.
      split: the part of the data to judge on; "all" for every example of another set than the
        run's.
      best: take the best checkpoint instead of the newest.
      store: a store of records that the numbers are written to as feedback on the checkpoint, with
        the samples that evaluators looked at, see docs/store.md.
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
      reward: the run of a reward model that judges texts, or a Python function as
        "module:function"; without one there is no win rate.
      prompt: what texts answer; given several times, they take the prompts in turn. Without one
        those of held-out conversations of B's data.
      num: number of samples of each.
      seed: random seed of the draws.
      split: the part of B's data whose prompts are taken.
      out: the folder to write to; compare/NAME_OF_A under B's run directory by default.
      store: a store of records that both runs' samples are written to, with their rewards and which
        of two the reward prefers, see docs/store.md.
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
    """Show a run. What it was trained with cannot be changed here.

    Attributes:
      lineage: show where it comes from instead: its data with their raw files, and the runs it
        depends on with theirs.
    """

    lineage: bool = False


@dataclass(frozen=True)
class ShowSamplesOptions:
    """Show where a file of samples comes from. It has no options."""
