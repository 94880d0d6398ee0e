"""Two `genjax train` at once on one run directory, many times: one trains, the other says so and
loses nothing.

    python benchmarks/two_writers.py [PAIRS]

A pair is sound if one process ends with 0, and the other with 2 and one line that names the first,
while the run keeps every row; or if both end with 0, where the second started when the first was
done. In every other pair the first is killed with SIGKILL in between and started again, which must
not wait. The last line counts the sound pairs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS, LOG = 4000, 100
OPTIONS = (
    "--steps",
    STEPS,
    "--every.log",
    LOG,
    "--every.evaluate",
    0,
    "--every.sample",
    0,
    "--every.checkpoint",
    1000,
)
COMMAND = [
    sys.executable,
    "-m",
    "genjax",
    "train",
    "vae_digits",
    "--tiny",
    *map(str, OPTIONS),
    "--run-dir",
]


def start(run_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(run_dir)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def read_lines(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines on stderr, without progress; waits for the end."""
    lines = process.communicate(timeout=600)[1].splitlines()
    return [line for line in lines if not line.startswith("step ")]


def pair(run_dir: Path, kill: bool) -> str:
    """Run a pair; returns what is wrong with it, "" for a sound one."""
    first = start(run_dir)
    time.sleep(random.uniform(0, 1.0))
    second, began = start(run_dir), time.monotonic()
    while first.poll() is None and second.poll() is None:
        time.sleep(0.01)
    took = time.monotonic() - began
    loser, winner = (first, second) if first.poll() is not None else (second, first)
    lines = read_lines(loser)
    if kill and loser.returncode == 2:
        time.sleep(random.uniform(0, 3.0))
        winner.send_signal(signal.SIGKILL)
        winner.wait()
        winner = start(run_dir)
    said = read_lines(winner)
    print(f"  {loser.returncode} after {took:.1f} s: {' | '.join(lines)}", flush=True)
    if winner.returncode != 0:
        return f"the survivor ended with {winner.returncode}: {said}"
    if loser.returncode != 0 and not (
        loser.returncode == 2 and len(lines) == 1 and "is being trained by" in lines[0]
    ):
        return f"the other ended with {loser.returncode}: {lines}"
    steps = [
        json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()
    ]
    if steps != list(range(LOG, STEPS + 1, LOG)):
        return f"rows {steps}"
    return ""


def main(pairs: int) -> None:
    sound = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(pairs):
            wrong = pair(Path(folder) / f"run_{number}", kill=number % 2 == 1)
            sound += not wrong
            print(f"pair {number + 1}: {wrong or 'sound'}", flush=True)
    print(f"{sound} of {pairs} pairs are sound")
    sys.exit(sound != pairs)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
