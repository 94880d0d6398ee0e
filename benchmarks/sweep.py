"""Time a sweep over seeds in sequence against the same seeds together, in turn.

    python -m benchmarks.sweep --rounds 3

Each round runs ``genjax sweep CONFIG --seeds 3`` without and with ``--vmapped``, as commands of
their own with compiled programs in the cache. Prints one JSON line a case: seconds of both; the
ratios of whole times, of the processors' time, which other work disturbs less, and of the time of
their steps (medians over rounds; above 1 means that together is faster); and the largest relative
difference of losses.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS = 3
QUIET = ["--every.evaluate", "0", "--every.sample", "0", "--every.checkpoint", "0"]
CASES = {
    "vae_digits": ["vae_digits", "--steps", "400", "--every.log", "200"],
    "short": [
        *("vae_digits", "--steps", "100", "--every.log", "100"),
        *("--family.coder.hidden", "32", "--batch-size", "16"),
    ],
    "gpt_docs": [
        "gpt_docs",
        *("--steps", "60", "--every.log", "30", "--family.net.width", "64"),
        *("--family.net.layers", "2", "--batch-size", "4"),
    ],
}


def run_sweep(case: str, out: Path, together: bool) -> tuple[float, float]:
    """Run a sweep into ``out``; return its seconds, and those of processors, also of children."""
    words = ["sweep", *CASES[case], "--seeds", str(SEEDS), "--devices.count", "1", *QUIET]
    words += ["--out", str(out), *(["--vmapped"] if together else [])]
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "genjax", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - begin, used


def read_runs(out: Path) -> list[list[dict[str, Any]]]:
    """Return the rows of each run."""
    names = [run["name"] for run in json.loads((out / "sweep.json").read_text("utf-8"))["runs"]]
    files = [(out / name / "metrics.jsonl").read_text("utf-8") for name in names]
    return [[json.loads(line) for line in text.splitlines()] for text in files]


def measure_steps(runs: list[list[dict[str, Any]]]) -> float:
    """Return the seconds of a step of each run, summed over the runs."""
    return sum(1 / rows[-1]["time/steps_per_second"] for rows in runs)


def measure(case: str, rounds: int) -> dict[str, Any]:
    """Run one case in turn."""
    whole: dict[str, list[float]] = {"sequence": [], "together": []}
    cores: dict[str, list[float]] = {"sequence": [], "together": []}
    steps: dict[str, list[float]] = {"sequence": [], "together": []}
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):  # the first one fills the cache of compiled programs
            runs = {}
            for name in whole:
                out = Path(folder) / f"{name}_{number}"
                seconds, used = run_sweep(case, out, name == "together")
                runs[name] = read_runs(out)
                if number:
                    whole[name].append(seconds)
                    cores[name].append(used)
                    # Together, one step is one of all runs.
                    share = SEEDS if name == "together" else 1
                    steps[name].append(measure_steps(runs[name]) / share)
            pairs = zip(*runs.values(), strict=True)
            for one, other in ((a, b) for x, y in pairs for a, b in zip(x, y, strict=True)):
                worst = max(worst, abs(one["loss"] / other["loss"] - 1))

    def compare(times: dict[str, list[float]]) -> float:
        ratios = [a / b for a, b in zip(times["sequence"], times["together"], strict=True)]
        return round(statistics.median(ratios), 2)

    return {
        "name": case,
        "seeds": SEEDS,
        **{f"{name}_s": round(statistics.median(whole[name]), 1) for name in whole},
        "ratio": compare(whole),
        "ratio_of_cpu": compare(cores),
        "ratio_of_steps": compare(steps),
        "difference": float(f"{worst:.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for case in given.cases:
        print(json.dumps(measure(case, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
