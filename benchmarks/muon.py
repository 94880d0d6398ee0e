"""Sweep the learning rate of AdamW and of Muon at equal tokens: how good, and how sensitive?

    python -m benchmarks.muon --out docs/muon.json

The same small GPT over the characters of the Python documentation, with each optimizer by its
published recipe: Muon as in Moonlight (Liu et al., arXiv 2502.16982), so orthogonalised Nesterov
momentum of 0.95 times 0.2 sqrt(max(rows, columns)) on matrices and AdamW with the same learning
rate on embeddings and norms; both with weight decay 0.1 and betas 0.9 and 0.95. Each optimizer is
one ``genjax sweep --vmapped`` over learning rates and seeds. Writes the held-out losses as JSON,
draws them beside it, ``docs/muon.png``, and prints a table. ``--draw`` only draws from the JSON
again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from genjax.__main__ import main as genjax
from genjax.data.charts import new_figure

RATES = (1e-3, 4e-3, 1.6e-2)
SEEDS = 1
STEPS = 200
OPTIMIZERS = {
    "AdamW": "gx.AdamW(rate, b1=0.9, b2=0.95, weight_decay=0.1, clip=1.0)",
    "Muon": "gx.Muon(rate, b1=0.9, b2=0.95, weight_decay=0.1, clip=1.0)",
}
CONFIG = """
from genjax import gx

def get_config(tiny=False):
    net = gx.Transformer(
        layers=2, heads=4, width=64, context=64, positions="rotary", norm="rms", biases=(),
    )
    rate = gx.WarmUp(30, gx.Linear(1e-3, 0.0))
    return gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=64)),
        data=gx.PythonDocs(layout=gx.RandomWindows(64)),
        optimizer={optimizer},
        steps={steps},
        batch_size=8,
        every=gx.Every(log=50, evaluate={steps}, sample=0, checkpoint=0),
        devices=gx.Devices(count=1),
    )
"""


def sweep_rates(folder: Path, name: str, steps: int, seeds: int) -> list[list[float]]:
    """Return the held-out loss of each seed for each learning rate, of those that
    did not diverge.
    """
    config, out = folder / f"{name}.py", folder / name
    config.write_text(CONFIG.format(optimizer=OPTIMIZERS[name], steps=steps), "utf-8")
    words = ["sweep", str(config), "--seeds", str(seeds), "--out", str(out), "--vmapped"]
    rates = ",".join(map(str, RATES))
    if genjax([*words, "--optimizer.learning-rate.then.start", rates]) != 0:
        raise SystemExit(f"the sweep of {name} failed")
    results = json.loads((out / "sweep.json").read_text("utf-8"))["results"]
    field = "optimizer.learning_rate.then.start"
    found = {one["values"][field]: one for one in results["combinations"]}
    return [found[rate]["figures"] for rate in RATES]


def measure(steps: int, seeds: int) -> dict[str, Any]:
    """Run both sweeps; return the losses by optimizer."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        losses = {name: sweep_rates(Path(folder), name, steps, seeds) for name in OPTIMIZERS}
    minutes = round((time.monotonic() - begin) / 60, 1)
    return {"rates": RATES, "steps": steps, "minutes": minutes, "losses": losses}


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the loss over the learning rate: a line through the means, a point for each seed."""
    figure = new_figure(6, 4, dpi=100)
    axes = figure.subplots()
    for number, (name, losses) in enumerate(result["losses"].items()):
        points = [
            (rate, loss)
            for rate, seeds in zip(result["rates"], losses, strict=True)
            for loss in seeds
        ]
        means = {rate: _mean([loss for r, loss in points if r == rate]) for rate, _ in points}
        axes.plot(list(means), list(means.values()), color=f"C{number}", label=name)
        axes.plot(*zip(*points, strict=True), "o", color=f"C{number}", markersize=4)
    axes.set(xscale="log", xlabel="learning rate")
    axes.set(ylabel=f"held-out nats per character after {result['steps']} steps")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    """Measure, draw and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/muon.json"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--draw", action="store_true")
    given = parser.parse_args()
    if not given.draw:
        found = json.dumps(measure(given.steps, given.seeds))
        given.out.write_text(found + "\n", "utf-8")
    result = json.loads(given.out.read_text("utf-8"))
    draw(result, given.out.with_suffix(".png"))
    print("learning rate", *(f"{rate:g}" for rate in result["rates"]), sep="\t")
    for name, losses in result["losses"].items():
        shown = (" ".join(f"{x:.3f}" for x in seeds) or "-" for seeds in losses)
        print(name, *shown, sep="\t")


if __name__ == "__main__":
    main()
