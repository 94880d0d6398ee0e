"""A job script for SLURM that trains the runs of a sweep as one array, a task for each run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from genjax.machine import disk
from genjax.sweep.directory import LOGS, Sweep

NAME = "array.sh"
WARNING = 120  # seconds before the end at which SLURM sends SIGTERM, so that a run is saved
SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array={tasks}
#SBATCH --output={logs}/slurm_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:TERM@{warning}
# Add what your cluster needs, such as --partition, --time, --gres and --mem, here or to sbatch.
cd {here} || exit 1
exec {python} -m genjax sweep {folder} --task "$SLURM_ARRAY_TASK_ID"
"""


def write_array(sweep: Sweep, numbers: Sequence[int]) -> Path:
    """Write the script of the runs with these numbers; return its path."""
    folder = sweep.folder.resolve()
    name = "".join(c if c.isalnum() else "_" for c in sweep.folder.name)
    text = SCRIPT.format(
        name=name,
        tasks=_write_ranges(numbers),
        logs=shlex.quote(str(folder / LOGS)),
        warning=WARNING,
        here=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        folder=shlex.quote(str(folder)),
    )
    path = sweep.folder / NAME
    disk.write(path, text)
    path.chmod(0o755)
    return path


def _write_ranges(numbers: Sequence[int]) -> str:
    """Write numbers as SLURM reads them: ``0-2,5``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
