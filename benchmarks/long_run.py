"""Train for a long time and see whether memory, open files and threads stay as they are.

    python -m benchmarks.long_run [vae_points] [--steps 100000] [--log 50] [--every 1000] [--json F]

trains a config in a process of its own, with a row every ``--log`` steps, and an evaluation, a
sample and a checkpoint every ``--every`` steps, and reads /proc of that process meanwhile (so it
needs Linux). The first fifth of the steps is left out: compilation, first evaluations and
libraries that load late. Memory of the rest is averaged in blocks of equal time, because single
readings depend on each other, and a line is fitted to the blocks. It prints the slope in bytes a
step with its 95 % interval, and the least and most files and threads; the exit code is 1 if
anything grows: memory if the interval lies above 0 and the growth over all steps is more than 1 %,
files and threads (of which a checkpoint has more for a moment) if their median over the last fifth
of the readings is larger than over the first.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

WARM = 0.2  # of the steps, which are left out
BLOCKS = 12  # averages that a line is fitted to
STUDENT = 2.228  # 97.5 % of Student's t with 10 degrees of freedom
NOISE = 0.01  # growth of memory over a whole run that is within noise


class Reading(NamedTuple):
    """What a process held at a step: resident bytes of its own, open files, threads."""

    step: int
    memory: int
    files: int
    threads: int


@dataclass(frozen=True)
class Verdict:
    """What became of a run.

    Attributes:
      steps: last step that was seen.
      readings: how many were made after the first fifth.
      memory_mb: mean of the resident memory after it.
      slope: bytes per step.
      error: half of the 95 % interval of ``slope``.
      files: least and most open files.
      threads: least and most threads.
      grows: what grew.
    """

    steps: int
    readings: int
    memory_mb: float
    slope: float
    error: float
    files: tuple[int, int]
    threads: tuple[int, int]
    grows: tuple[str, ...]


def fit_slope(steps: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Fit a line to the means of ``BLOCKS`` blocks; return its slope and half of the 95 %
    interval.
    """
    x, y = (np.array([part.mean() for part in np.array_split(v, BLOCKS)]) for v in (steps, values))
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    return slope, STUDENT * math.sqrt(float(rest @ rest) / (len(x) - 2) / float(x @ x))


def judge(readings: Sequence[Reading]) -> Verdict:
    """Judge the readings of a run.

    Raises:
      ValueError: they are too few for a line.
    """
    last = readings[-1].step if readings else 0
    late = [reading for reading in readings if reading.step >= WARM * last]
    if len(late) < 2 * BLOCKS:
        raise ValueError(f"{len(late)} readings are too few: train for more steps")
    steps, memory, files, threads = (list(column) for column in zip(*late, strict=True))
    slope, error = fit_slope(steps, memory)
    mean = sum(memory) / len(memory)
    grows = ["memory"] if slope > error and slope * last > NOISE * mean else []
    fifth = len(late) // 5
    for name, counts in (("files", files), ("threads", threads)):
        first, end = statistics.median(counts[:fifth]), statistics.median(counts[-fifth:])
        grows += [name] if end > first else []
    return Verdict(
        last,
        len(late),
        round(mean / 1e6, 1),
        round(slope, 2),
        round(error, 2),
        (min(files), max(files)),
        (min(threads), max(threads)),
        tuple(grows),
    )


def watch(process: subprocess.Popen[bytes], run_dir: Path, seconds: float) -> list[Reading]:
    """Read the state of a process that trains in ``run_dir`` every few seconds until it ends."""
    readings: list[Reading] = []
    while process.poll() is None:
        time.sleep(seconds)
        step = read_step(run_dir / "metrics.jsonl")
        try:
            held = read_process(process.pid)
        except (OSError, ValueError, IndexError):  # it has just ended
            break
        if step > (readings[-1].step if readings else 0):
            readings.append(Reading(step, *held))
    return readings


def read_process(pid: int) -> tuple[int, int, int]:
    """Return the resident bytes of its own, the open files and the threads of a process. Pages of
    files, such as libraries, come and go with the memory that others use, and are left out.
    """
    home = Path(f"/proc/{pid}")
    lines = (home / "status").read_text(encoding="utf-8").splitlines()
    (anonymous,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
    counts = [sum(1 for _ in (home / name).iterdir()) for name in ("fd", "task")]
    return anonymous * 1024, counts[0], counts[1]


def read_step(path: Path) -> int:
    """Return the step of the last whole row of ``metrics.jsonl``; 0 without one."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2**14))
        rows = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b'{"step"')]
    return int(json.loads(rows[-1])["step"]) if rows else 0


def main() -> int:
    """Train, watch, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", nargs="?", default="vae_points")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--log", type=int, default=50)
    parser.add_argument("--every", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.5, help="between readings")
    parser.add_argument("--json", type=Path, help="file for the verdict and the readings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        words = ["--steps", options.steps, "--every.log", options.log]
        for name in ("evaluate", "sample", "checkpoint"):
            words += [f"--every.{name}", options.every]
        command = [sys.executable, "-m", "genjax", "train", options.config, *map(str, words)]
        with subprocess.Popen(
            [*command, "--run-dir", str(run_dir)], stderr=subprocess.DEVNULL
        ) as process:
            readings = watch(process, run_dir, options.seconds)
    if process.returncode:
        raise SystemExit(f"training ended with exit code {process.returncode}")
    verdict = judge(readings)
    if options.json is not None:
        found = {"verdict": asdict(verdict), "readings": [list(reading) for reading in readings]}
        options.json.write_text(json.dumps(found), encoding="utf-8")
    print(
        f"{verdict.steps:,} steps, {verdict.readings:,} readings: memory {verdict.memory_mb:,} MB, "
        f"slope {verdict.slope:+.2f} ± {verdict.error:.2f} bytes a step; open files "
        f"{verdict.files[0]} to {verdict.files[1]}, threads {verdict.threads[0]} to "
        f"{verdict.threads[1]}; grows: {', '.join(verdict.grows) or 'nothing'}"
    )
    return 1 if verdict.grows else 0


if __name__ == "__main__":
    sys.exit(main())
