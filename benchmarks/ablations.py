"""Change one thing of a config at a time and show what it does: a picture for each question.

    python -m benchmarks.ablations                      # runs that docs/ablations.json lacks
    python -m benchmarks.ablations guidance lora_rank   # these questions alone
    python -m benchmarks.ablations --draw               # train nothing: the pictures and the page

The runs are short forms of configs, made under ``--folder`` and judged on held-out data; the page,
docs/ablations.md, has their numbers. ``benchmarks.ablation_questions`` lists the questions.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import genjax
from benchmarks.ablation_questions import Ablation, Changes, list_ablations
from genjax.config_files import load_config
from genjax.data.charts import new_figure
from genjax.experiment import Experiment
from genjax.serial.fields import replace_fields

DOCS = Path(__file__).resolve().parent.parent / "docs"
STORED, PAGE, PICTURES = "ablations.json", "ablations.md", "ablations"
INTRODUCTION = """\
# Ablations

Each changes one thing of a short form of a config. `python -m benchmarks.ablations` runs them,
draws the pictures and writes this page. Numbers are of held-out data, one for each seed.
"""
WIDE = 300  # numbers that differ by more are drawn on a logarithmic axis


def run_arm(ablation: Ablation, changes: Changes, seed: int, run_dir: Path) -> dict[str, float]:
    """Train an arm and return its held-out numbers, and the last of training as ``train/NAME``."""
    config, source = load_config(ablation.config)
    experiment: Experiment = replace_fields(config, {**ablation.fixed, **changes, "seed": seed})
    begin = time.process_time()
    run = genjax.train(experiment, run_dir, source=source, quiet=True)
    numbers = {name: float(value) for name, value in run.evaluate("test").numbers.items()}
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    last = [row for row in map(json.loads, lines) if row["split"] == "train"][-1]
    numbers |= {f"train/{name}": value for name, value in last.items() if name != "split"}
    return numbers | {"cpu_seconds": round(time.process_time() - begin, 1)}


def run_missing(names: list[str], folder: Path, stored: Path) -> None:
    """Run what is missing; arms with the same changes share a run."""
    found = read(stored)
    for name in names:
        ablation = list_ablations()[name]
        made: dict[str, dict[str, float]] = {}
        for arm, changes in ablation.arms.items():
            keys = [key.format(arm=arm) for key in (*ablation.metrics, "cpu_seconds")]
            for seed in ablation.seeds:
                here = found.setdefault(name, {}).setdefault(arm, {})
                if str(seed) in here:
                    continue
                same = repr((changes, seed))
                if same not in made:
                    run_dir = folder / f"{name}-{len(made)}-{seed}"
                    made[same] = run_arm(ablation, changes, seed, run_dir)
                here[str(seed)] = {key: made[same][key] for key in keys if key in made[same]}
                print(name, arm, seed, here[str(seed)], flush=True)
                stored.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read(stored: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Read the numbers by question, arm and seed."""
    found: dict[str, Any] = {}
    if stored.exists():
        found = json.loads(stored.read_text(encoding="utf-8"))
    return found


def collect(
    ablation: Ablation, found: Mapping[str, Mapping[str, Mapping[str, float]]], key: str
) -> list[list[float]]:
    """Return a number of each seed of each arm."""
    return [
        [numbers.get(key.format(arm=arm), float("nan")) for numbers in found[arm].values()]
        for arm in ablation.arms
        if arm in found
    ]


def draw(ablation: Ablation, found: Mapping[str, Any], path: Path) -> None:
    """Draw the numbers of all arms: a panel for each metric, a point for each seed, a bar at the
    mean.
    """
    arms = [arm for arm in ablation.arms if arm in found]
    figure = new_figure(3.2 * len(ablation.metrics) + 1.2, 0.3 * len(arms) + 1.1, dpi=90)
    axes = figure.subplots(1, len(ablation.metrics), sharey=True, squeeze=False)[0]
    places = np.arange(len(arms))[::-1]
    for axis, (key, label) in zip(axes, ablation.metrics.items(), strict=True):
        columns = collect(ablation, found, key)
        least, most = np.nanmin(columns), np.nanmax(columns)
        if least > 0 and most / least > WIDE:
            axis.set_xscale("log")
        for place, values in zip(places, columns, strict=True):
            axis.barh(place, np.mean(values), height=0.6, color="#cfd8e6")
            axis.plot(values, [place] * len(values), "o", color="#24527a", markersize=4)
        axis.set_title(label, fontsize=9)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(places, arms)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def write_page(found: Mapping[str, Any]) -> str:
    """Return the page: for each question its picture, its numbers and what they show."""
    parts = [INTRODUCTION]
    for name, ablation in list_ablations().items():
        if name not in found:
            continue
        numbers, labels = found[name], list(ablation.metrics.values())
        arms = [arm for arm in ablation.arms if arm in numbers]
        columns = [collect(ablation, numbers, key) for key in ablation.metrics]
        rows = [
            f"| {arm} | "
            + " | ".join(", ".join(f"{x:.3g}" for x in column[i]) for column in columns)
            + " |"
            for i, arm in enumerate(arms)
        ]
        # Arms that share a run have its seconds each.
        runs = {(at, each["cpu_seconds"]) for arm in numbers.values() for at, each in arm.items()}
        seconds = sum(time for _, time in runs)
        head = f"| `{ablation.config}` | {' | '.join(labels)} |\n|{'---|' * (len(labels) + 1)}\n"
        parts.append(
            f"## {ablation.title}\n\n![{ablation.title}]({PICTURES}/{name}.png)\n\n{head}"
            + "\n".join(rows)
            + "\n\n"
            + textwrap.fill(
                f"{ablation.answer} Seeds {', '.join(map(str, ablation.seeds))}; "
                f"{seconds / 60:.1f} minutes of CPU time.",
                100,
            )
            + "\n"
        )
    return "\n".join(parts)


def main() -> None:
    """Run what is missing, draw the pictures and write the page."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("names", nargs="*", metavar="QUESTION", help=", ".join(list_ablations()))
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument("--draw", action="store_true", help="train nothing")
    given = parser.parse_args()
    known = list_ablations()
    if unknown := set(given.names) - set(known):
        parser.error(f"unknown questions: {', '.join(sorted(unknown))}")
    stored = given.docs / STORED
    if not given.draw:
        run_missing(given.names or list(known), given.folder, stored)
    found = read(stored)
    for name in filter(found.__contains__, known):
        draw(known[name], found[name], given.docs / PICTURES / f"{name}.png")
    (given.docs / PAGE).write_text(write_page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
