"""Measure how soon commands answer: help, mistakes, the import, and the first step of a run.

    python -m benchmarks.start [--rounds 3] [--json]

prints a row for each case: seconds by the clock and seconds of CPU time, medians over the rounds.
Training runs once with an empty folder of compiled programs (cold), and then with a full one
(warm). The clock stops at the end of the process: after one step, a row and a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

QUIET = ("--every.evaluate", "0", "--every.sample", "0")
COMMANDS = {
    "genjax --help": ("--help",),
    "a wrong command": ("trian",),
    "a wrong option of store": ("store", "show", "s.db", "--wrong"),
    "show --help": ("show", "--help"),
    "train vae_digits --help": ("train", "vae_digits", "--help"),
}
RUNS = {
    "vae_digits": ("train", "vae_digits", "--steps", "1", *QUIET),
    "gpt_docs --tiny": ("train", "gpt_docs", "--tiny", "--steps", "1", *QUIET),
}


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
      case: what was run.
      seconds: by the clock.
      cpu: seconds of CPU time of all cores.
    """

    case: str
    seconds: float
    cpu: float


def main() -> None:
    """Measure every case and print the rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        rows.append(measure("import genjax", ("-c", "import genjax"), home, options.rounds))
        for case, words in COMMANDS.items():
            rows.append(measure(case, ("-m", "genjax", *words), home, options.rounds))
        for case, words in RUNS.items():
            for heat, rounds in (("cold", 1), ("warm", options.rounds)):
                command = ("-m", "genjax", *words)
                rows.append(measure(f"{case}, {heat}", command, home, rounds))
    for row in rows:
        line = f"{row.case:<32}{row.seconds:8.2f} s{row.cpu:8.2f} s of CPU"
        print(json.dumps(asdict(row)) if options.json else line)


def measure(case: str, command: Sequence[str], home: Path, rounds: int) -> Row:
    """Run a command several times; ``home`` keeps its compiled programs."""
    seconds, cpu = [], []
    for number in range(rounds):
        run_dir = home / f"{case} {number}".replace(" ", "_")
        words = [*command, "--run-dir", str(run_dir)] if "--steps" in command else list(command)
        begin, before = time.perf_counter(), _spent()
        subprocess.run(
            [sys.executable, *words],
            env={**_plain_environment(), "XDG_CACHE_HOME": str(home / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,  # mistakes exit with 2
        )
        seconds.append(time.perf_counter() - begin)
        cpu.append(_spent() - before)
    return Row(case, round(statistics.median(seconds), 2), round(statistics.median(cpu), 2))


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
