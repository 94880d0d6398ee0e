"""Kill `genjax train` with SIGKILL at random moments, start it again each time, and compare with a
run left alone.

    python -m benchmarks.kills [--kills N] [--seed S]

Every moment is a row of a table in Markdown: seconds since the start of that process, the newest
whole checkpoint at its end, whether a save was under way, and what the next process did. The last
lines say whether the final state is bitwise that of the run left alone, and whether metrics.jsonl
has the same rows, each once. Ends with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from etils import epath

import genjax
from genjax.runs.checkpoint_files import UNFINISHED, find_steps, newest_step

STEPS, SAVE = 200, 20  # steps for each kill: more than a process takes before its own
EVERY = {"log": 10, "evaluate": 100, "sample": 0, "checkpoint": SAVE}
OPTIONS = [f"--every.{name}={interval}" for name, interval in EVERY.items()]
COMMAND = [
    sys.executable,
    "-m",
    "genjax",
    "train",
    "vae_digits",
    "--tiny",
    "--steps-per-dispatch=10",
    *OPTIONS,
]
TRAINING = 2.0  # seconds after its first steps within which a process is killed, at most


def start(run_dir: Path, steps: int) -> subprocess.Popen[bytes]:
    """Train in ``run_dir``; what the process says is kept next to it."""
    command = [*COMMAND, f"--steps={steps}", f"--run-dir={run_dir}"]
    with said(run_dir).open("wb") as stderr:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)


def said(run_dir: Path) -> Path:
    return run_dir.with_name(f"{run_dir.name}.stderr")


def wait_for_steps(process: subprocess.Popen[bytes], run_dir: Path) -> float:
    """Wait until a process takes steps, or ends; returns the seconds since its start."""
    began, row = time.monotonic(), run_dir / "metrics.jsonl"
    before = row.stat().st_size if row.exists() else 0
    while process.poll() is None and not (row.exists() and row.stat().st_size > before):
        if re.search("resuming|starting again", said(run_dir).read_text(errors="replace")):
            break
        time.sleep(0.01)
    return time.monotonic() - began


def unfinished(run_dir: Path) -> bool:
    """Return whether something in the folder of checkpoints is half-written or half-removed."""
    names = [path.name for path in (run_dir / "checkpoints").glob("*")]
    lacking = [lacks for lacks in find_steps(epath.Path(run_dir)).values() if lacks is not None]
    return bool(lacking) or any(UNFINISHED in name for name in names)


def wrong_start(run_dir: Path, newest: int | None) -> str:
    """What the last process did, and what is wrong with it: "" if it continued from ``newest``
    or had not spoken.
    """
    text = said(run_dir).read_text(errors="replace")
    if "Traceback" in text or "damaged" in text:
        return next(line for line in text.splitlines() if "Traceback" in line or "damaged" in line)
    found = re.search(r"resuming from step (\d+)", text)
    if found is not None and int(found[1]) != newest:
        return f"it continued from step {found[1]}"
    if newest is not None and "starting again" in text:
        return "it began again"
    return ""


def killed(run_dir: Path, steps: int, kills: int, draw: random.Random) -> Iterator[str]:
    """Train with this many kills, then to the end; yields what is wrong with each start after a
    kill.

    Three of four come while a process trains and saves, one at any moment of its start.
    """
    newest: int | None = None
    longest = 1.0  # seconds from a start to the first steps
    for number in range(kills + 1):
        process, began = start(run_dir, steps), time.monotonic()
        moment: float | None = None
        if number < kills:
            if number % 4:
                longest = wait_for_steps(process, run_dir)
                time.sleep(draw.uniform(0, TRAINING))
            else:
                time.sleep(draw.uniform(0, longest))
            process.kill()
            moment = time.monotonic() - began
        code = process.wait()
        wrong = wrong_start(run_dir, newest)
        if code not in (0, -9) or (moment is None and code != 0):
            wrong = (
                f"it ended with {code}: {said(run_dir).read_text(errors='replace').strip()[-300:]}"
            )
        if number:
            print(f" {wrong or 'continued'} |")
            yield wrong
        newest = newest_step(epath.Path(run_dir))
        if moment is not None:
            saving = "yes" if unfinished(run_dir) else "no"
            end = "" if code else " (at the end)"
            print(f"| {number + 1} | {moment:.2f}{end} | {newest} | {saving} |", end="", flush=True)


def rows(run_dir: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: x for name, x in row.items() if not name.startswith("time/")} for row in lines]


def bits(run_dir: Path) -> list[bytes]:
    """All that the newest checkpoint holds."""
    state = genjax.load(run_dir).state
    state = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def main(kills: int, seed: int) -> int:
    """Returns the exit code."""
    steps = STEPS * kills
    with tempfile.TemporaryDirectory() as folder:
        alone, often = Path(folder) / "alone", Path(folder) / "often"
        if start(alone, steps).wait():
            print(said(alone).read_text(), file=sys.stderr)
            return 1
        draw = random.Random(seed)
        print("| kill | seconds | newest checkpoint | save under way | the next start |")
        print("|---|---|---|---|---|")
        wrong = [line for line in killed(often, steps, kills, draw) if line]
        same_state, same_rows = bits(alone) == bits(often), rows(alone) == rows(often)
    print(
        f"\n{kills - len(wrong)} of {kills} starts after a kill continued from the newest whole "
        "checkpoint"
    )
    print(f"final state after {steps} steps: {'bitwise equal' if same_state else 'DIFFERS'}")
    print(f"rows of metrics.jsonl: {'the same, each once' if same_rows else 'DIFFER'}")
    return int(bool(wrong) or not same_state or not same_rows)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    # What was compiled once is read from here, so that a start takes seconds.
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "genjax_kills")
    )
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=20, help="how often the run is killed (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    arguments = parser.parse_args()
    sys.exit(main(arguments.kills, arguments.seed))
