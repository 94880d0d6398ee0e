"""Sweep the learning rate at four widths, with and without muP: where is the best one?

    python -m benchmarks.mup_sweep --out docs/mup.json

Each width is one ``genjax sweep --vmapped`` over the learning rates. Writes the losses as JSON and
draws them beside it, ``docs/mup.png``. ``--draw`` only draws from the JSON again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from genjax.__main__ import main as genjax
from genjax.data.charts import new_figure

WIDTHS = (32, 64, 128, 256)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
STEPS = 150
LAST = 30  # steps whose mean loss is compared
CONFIG = """
from genjax import gx

def get_config(tiny=False):
    net = gx.Transformer(
        layers=2, heads=4, width={width}, context=64, norm="rms", biases=(), init_std=0.1,
        mup={mup},
    )
    return gx.Experiment(
        family=gx.Autoregressive(net, sampler=gx.Decoding(steps=64)),
        data=gx.PythonDocs(layout=gx.RandomWindows(64)),
        optimizer=gx.Adam(
            gx.WarmUp(10, gx.Linear(1e-3, 0.0)), b2=0.95, clip=1.0,
            rates=net.rates() if net.mup else (),
        ),
        steps={steps},
        batch_size=8,
        every=gx.Every(log={last}, evaluate=0, sample=0, checkpoint=0),
        devices=gx.Devices(count=1),
    )
"""


def sweep_width(folder: Path, width: int, mup: bool, steps: int) -> list[float | None]:
    """Return the mean loss of the last steps for each learning rate; None where it diverged."""
    name = f"{'mup' if mup else 'standard'}_{width}"
    config, out = folder / f"{name}.py", folder / name
    scaled = "gx.MuP(width=32, head_width=8)" if mup else "None"
    config.write_text(
        CONFIG.format(width=width, mup=scaled, steps=steps, last=min(LAST, steps)), "utf-8"
    )
    rates = ",".join(map(str, RATES))
    words = ["sweep", str(config), "--optimizer.learning-rate.then.start", rates]
    if genjax([*words, "--vmapped", "--out", str(out)]) != 0:
        raise SystemExit(f"the sweep of {name} failed")
    results = json.loads((out / "sweep.json").read_text("utf-8"))["results"]
    field = "optimizer.learning_rate.then.start"
    found = {one["values"][field]: one["mean"] for one in results["combinations"]}
    return [found[rate] for rate in RATES]


def measure(steps: int) -> dict[str, Any]:
    """Run all sweeps; return the losses by parametrization and width."""
    begin = time.monotonic()
    losses: dict[str, dict[str, list[float | None]]] = {"standard": {}, "muP": {}}
    with tempfile.TemporaryDirectory() as folder:
        for width in WIDTHS:
            for name, found in losses.items():
                found[str(width)] = sweep_width(Path(folder), width, name == "muP", steps)
    minutes = (time.monotonic() - begin) / 60
    return {"rates": RATES, "steps": steps, "minutes": round(minutes, 1), "losses": losses}


def find_best(losses: list[float | None]) -> int:
    """Return the number of the lowest loss."""
    finite = [math.inf if loss is None else loss for loss in losses]
    return finite.index(min(finite))


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the loss over the learning rate, a line for each width, and mark the best."""
    figure = new_figure(9, 4, dpi=100)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, widths) in zip(panels, result["losses"].items(), strict=True):
        for number, (width, losses) in enumerate(widths.items()):
            color = f"C{number}"
            kept = [(r, x) for r, x in zip(result["rates"], losses, strict=True) if x is not None]
            axes.plot(*zip(*kept, strict=True), color=color, label=f"width {width}", marker=".")
            best = find_best(losses)
            axes.plot(result["rates"][best], losses[best], "o", color=color, markersize=9)
        axes.set(xscale="log", xlabel="learning rate", title=name)
        axes.grid(alpha=0.3)
    panels[0].set(ylabel=f"loss of the last {LAST} of {result['steps']} steps, nats")
    panels[0].legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/mup.json"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--draw", action="store_true")
    given = parser.parse_args()
    if not given.draw:
        given.out.write_text(json.dumps(measure(given.steps)) + "\n", "utf-8")
    result = json.loads(given.out.read_text("utf-8"))
    draw(result, given.out.with_suffix(".png"))
    for name, widths in result["losses"].items():
        best = {width: result["rates"][find_best(losses)] for width, losses in widths.items()}
        print(name, best)


if __name__ == "__main__":
    main()
