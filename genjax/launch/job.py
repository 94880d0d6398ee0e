"""What is launched: a training command, checked before anything is written or started."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from genjax.errors import UserError
from genjax.experiment import Experiment

# A word that neither a shell nor a scheduler reads in another way, and what it is.
WORD = r"[A-Za-z0-9][A-Za-z0-9._+@=-]{0,254}", "a word of letters, digits and . _ + @ = -"
# A name of Kubernetes and Google Cloud. Its pods, NAME-workers-0-123-abcde, may have 63 characters.
LABEL = r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "at most 40 small letters, digits and -"
PLACES = ("coordinator", "processes", "process_id", "distributed")


@dataclass(frozen=True)
class Job:
    """A training command.

    Attributes:
      config: name or path of the config.
      options: options of ``train``, as typed.
      experiment: what they make of the config.
      run_dir: the run directory; None if none is given.
      name: name of the run.
    """

    config: str
    options: tuple[str, ...]
    experiment: Experiment
    run_dir: str | None
    name: str

    def write_command(self, python: str, *more: str) -> str:
        """Return the command as a line for a shell."""
        return shlex.join(self.list_words(python, *more))

    def list_words(self, python: str, *more: str) -> list[str]:
        """Return the words of the command."""
        return [python, "-m", "genjax", "train", self.config, *self.options, *more]

    def check(self, processes: int, devices: int | None) -> None:
        """Refuse what cannot run so, before it waits in a queue.

        Args:
          processes: number of processes.
          devices: number of all their devices; None if it is not known here.
        """
        asked = self.experiment.devices
        plain = type(asked)()
        for name in PLACES:
            if getattr(asked, name) != getattr(plain, name):
                raise UserError(f"devices.{name} is set by launch: leave it out", f"devices.{name}")
        if processes > 1 and asked.mode == "single":
            raise UserError(
                f"devices.mode single uses one device, but there are {processes} processes",
                "devices.mode",
            )
        if asked.count is not None and asked.count % processes:
            raise UserError(
                f"devices.count is {asked.count}, but {processes} processes share it evenly",
                "devices.count",
            )
        count = asked.count or devices
        if count is None:
            return
        shared = asked.fsdp * asked.tensor
        if count % shared:
            raise UserError(
                f"{count} device(s) do not divide into devices.fsdp {asked.fsdp} x devices.tensor "
                f"{asked.tensor}",
                "devices.fsdp",
            )
        rows, size = count // asked.tensor, self.experiment.batch_size
        if size % rows:
            raise UserError(
                f"batch_size {size} is not divisible by {rows} device(s) of {processes} "
                "process(es)",
                "batch_size",
            )


def with_options(job: Job, more: Sequence[str], run_dir: str) -> Job:
    """Return a job with more options and a run directory of its own."""
    options = _without(job.options, "--run-dir")
    if "--seed" in more:
        options = _without(options, "--seed")
    options += [*more, "--run-dir", run_dir]
    return dataclasses.replace(job, options=tuple(options), run_dir=run_dir)


def _without(options: Iterable[str], name: str) -> list[str]:
    """Leave out an option and its value."""
    kept: list[str] = []
    left_out = False
    for word in options:
        if not left_out and word != name and not word.startswith(f"{name}="):
            kept.append(word)
        left_out = word == name
    return kept


def check_text(owner: object, pattern: str, rule: str, *names: str) -> None:
    """Refuse fields whose text is not what a scheduler reads; None is skipped."""
    for name in names:
        value = vars(owner)[name]
        if value is not None and not re.fullmatch(pattern, value):
            raise UserError(f"{name} must be {rule}, got {value!r}", name)


def as_label(name: str) -> str:
    """Return a name as Kubernetes and Google Cloud accept it."""
    return (
        re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-0123456789")[:40].strip("-") or "genjax"
    )
