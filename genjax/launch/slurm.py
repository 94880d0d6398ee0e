"""Write a batch script for SLURM."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Literal

import tyro

from genjax import checks
from genjax.errors import UserError
from genjax.launch.job import WORD, Job, check_text

DAYS = re.compile(r"(\d+)-(\d+)(?::(\d{1,2}))?(?::(\d{1,2}))?")
LARGEST_ARRAY = 1001  # of SLURM, unless its MaxArraySize says otherwise


@checks.frozen
class SlurmOptions:
    """Write a batch script for SLURM: `sbatch FILE` submits it. It saves and requeues itself before
    its time is over, and resumes. All other options are those of `genjax train`.

    Attributes:
      nodes: number of nodes.
      gpus: number of GPUs of each node; 0 for CPUs.
      per: whether there is one process for each node or for each GPU.
      time: longest time of a slice: MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS.
      grace: seconds before that in which the run is saved.
      cpus: number of cores of each process; None for SLURM's default.
      partition: partition.
      account: account.
      name: name of the job; that of the config by default.
      seeds: number of runs with seeds from 0, as an array job.
      each: options of one run of an array job, as in --each="--steps 500"; may be given several
        times.
      setup: shell command that runs first, such as "module load cuda".
      python: Python on the nodes.
      out: file to write; - prints.
    """

    nodes: int = 1
    gpus: int = 0
    per: Literal["node", "gpu"] = "node"
    time: str = "24:00:00"
    grace: int = 120
    cpus: int | None = None
    partition: str | None = None
    account: str | None = None
    name: str | None = None
    seeds: int | None = None
    each: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    setup: str | None = None
    python: str = sys.executable
    out: str = "-"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "nodes", "cpus", "seeds", "grace")
        checks.at_least(self, 0, "gpus")
        check_text(self, *WORD, "partition", "account", "name")
        if self.per == "gpu" and not self.gpus:
            raise UserError("per gpu needs gpus: the number of GPUs of each node", "per")
        if self.grace >= read_time(self.time):
            raise UserError(f"grace must be shorter than time, got {self.grace} s", "grace")
        runs = (self.seeds or 1) * max(1, len(self.each))
        if runs > LARGEST_ARRAY:
            raise UserError(
                f"seeds must make at most {LARGEST_ARRAY} runs with each, got {runs}", "seeds"
            )

    @property
    def processes(self) -> int:
        """Number of processes of a run."""
        return self.nodes * (self.gpus if self.per == "gpu" else 1)


def read_time(text: str) -> int:
    """Return the seconds of a time limit of SLURM.

    Raises:
      UserError: SLURM does not read it, or it is 0.
    """
    whole = re.fullmatch(r"(\d+)(?::(\d\d?))?(?::(\d\d?))?", text)
    days = DAYS.fullmatch(text)
    seconds = 0
    if days is not None:
        d, h, m, s = (int(part or 0) for part in days.groups())
        seconds = 86400 * d + 3600 * h + 60 * m + s
    elif whole is not None:
        parts = [int(part) for part in whole.groups() if part is not None]
        h, m, s = (0, *parts, 0)[:3] if len(parts) < 3 else parts
        seconds = 3600 * h + 60 * m + s
    if not seconds:
        raise UserError(
            "time must be MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS or "
            f"DAYS-HOURS:MINUTES:SECONDS, and more than 0, got {text!r}",
            "time",
        )
    return seconds


def write_slurm(options: SlurmOptions, jobs: Sequence[Job]) -> str:
    """Return the batch script for one run, or for several as an array."""
    several = len(jobs) > 1
    name = options.name or re.sub(r"[^A-Za-z0-9._+@=-]+", "_", jobs[0].name)
    lines = {
        "job-name": name,
        "nodes": options.nodes,
        "ntasks-per-node": options.processes // options.nodes,
        "gpus-per-node": options.gpus or None,
        "cpus-per-task": options.cpus,
        "time": options.time,
        "partition": options.partition,
        "account": options.account,
        "array": f"0-{len(jobs) - 1}" if several else None,
        "output": f"{name}-{'%A_%a' if several else '%j'}.out",
        "signal": f"B:USR1@{options.grace}",
    }
    header = "".join(
        f"#SBATCH --{key}={value}\n" for key, value in lines.items() if value is not None
    )
    cores = "" if options.cpus is None else f" --cpus-per-task={options.cpus}"
    train = f"srun --kill-on-bad-exit=1 --distribution=block{cores}"
    return f"""#!/bin/bash
{header}#SBATCH --requeue
#SBATCH --open-mode=append

{_write_setup(options)}{_write_commands(options, jobs)}
# {options.grace} s before its time is over the run is saved, and the job queued again. A preempted
# job is saved, too, and SLURM itself queues it again. Either way the run resumes.
again=no
trap 'again=yes; kill -TERM "$step"' USR1
trap 'kill -TERM "$step"' TERM

{train} "${{train[@]}}" &
step=$!
while kill -0 "$step" 2>/dev/null; do # a signal ends the wait, not the run
    wait "$step"
done
wait "$step"
code=$?
if [ "$again" = yes ] && [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def _write_setup(options: SlurmOptions) -> str:
    return "" if options.setup is None else f"{options.setup}\n\n"


def _write_commands(options: SlurmOptions, jobs: Sequence[Job]) -> str:
    """Return lines that set the command: one, or that of the array's task."""
    more = ["--devices.distributed"] if options.processes > 1 else []
    lines = [f"train=({job.write_command(options.python, *more)})" for job in jobs]
    if len(lines) == 1:
        return f"{lines[0]}\n"
    cases = "".join(f"{i}) {line} ;;\n" for i, line in enumerate(lines))
    return f'case "$SLURM_ARRAY_TASK_ID" in\n{cases}esac\n'
