"""The page of ``benchmarks.growth``: its tables, its picture, and why the curves bend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genjax.data.charts import new_figure

TITLES = {
    "vae": "VAE: perceptrons of `depth` layers, `width` wide, 16 x 16 pixels",
    "gan": "GAN: convolutions of `width` and twice as many channels, both players",
    "unet": "Diffusion: a U-Net of `width` and twice as many channels, attention at the bottom",
    "gpt": "GPT: heads of 32",
    "mlm": "Masked language model: heads of 32",
    "input": "Input: a shuffled batch of 128 of so many images of 32 x 32 x 3 in memory",
    "devices_vae": "VAE on several devices of one host, batch 64",
    "devices_gpt": "GPT on several devices of one host, batch 64",
}
HEADER = """# How cost grows

`python -m benchmarks.growth` writes this page, its picture and `growth_of_cost.json`: {machine},
{cores} cores, {date}. Each row is a whole training step (forward, backward, Adam, moving average,
the check for what is not finite, metrics); one size doubles at a time, the others are width 64,
depth 2, batch 16, context 64, 1,024 tokens and 16 x 16 pixels. `ms` is the fastest of at least five
steps; `program` what the compiled step needs besides state and batch, by XLA's own analysis; `peak`
the peak of the process, of which the libraries alone take about 250 MB. The slope, in brackets, is
the logarithm to base 2 of the ratio to the row above: 1 is linear, 2 quadratic, 0 unchanged.

![Time and memory over the sizes](growth_of_cost.png)
"""
WHY = """## Why the curves bend

- **Small sizes are flat.** A step has a fixed cost: the call, a pass over each array of the state,
  and the metrics. Until products outweigh it, doubling costs less than double.
  `steps_per_dispatch` spreads the cost of the call.
- **Width.** Parameters and the work of products grow with the square of the width, activations
  linearly: the slope of time starts below 1 and approaches 2. The program's memory stays nearer to
  1 until gradients, which have the size of the parameters, outweigh activations.
- **Depth and batch** are linear in work. The slope is below 1 while the embedding, the head and the
  fixed cost are a large part, and while larger products use both cores better. From 4 to 8 layers
  of GPT it is above 1, probably because activations of 39 to 69 MB lie far beyond the second cache
  by the time the backward pass reads them.
- **Context** costs a slope of 1 in everything per token; only the scores of attention grow with its
  square, in time and in memory. With heads of 32 they matter from about 128 tokens on.
- **Side** doubles height and width, so 2 is linear in pixels; attention at the bottom is quadratic
  in places there, that is 4, and small until the bottom has hundreds of places.
- **Vocabulary** enters by the embedding, its gradient and moments, and by the logits: flat as long
  as the blocks cost more, then linear.
- **Examples in memory** change the memory alone (`program` is the size of the set here). A batch
  costs the same, since its indices are a slice of an order that is drawn once an epoch.
- **Devices** of one host share its cores, so no speed can be gained; what rises is the price of
  dividing a batch. Each device runs a program of its own and all wait for each other at the means
  of the gradients: for a small step, which consists of fixed costs, time is in proportion to the
  devices. `program` is the sum over the devices. It halves with the batch on each device for
  activations, but not for gradients, which every device has whole.
- **Peaks** of the process are rough: compilation is part of them, and the allocator keeps some of
  what the point before has freed.
"""


def write_page(found: Mapping[str, Any]) -> str:
    """Return the page in Markdown."""
    parts = [HEADER.format(**{name: found[name] for name in ("machine", "cores", "date")})]
    for family, points in group(found["points"], "family"):
        parts.append(f"## {TITLES[family]}\n")
        parts.append("| | | ms (slope) | program MB (slope) | peak MB (slope) |")
        parts.append("|---|---|---|---|---|")
        for axis, row in group(points, "axis"):
            for point in row:
                cells = [show(point, name) for name in ("ms", "program_mb", "peak_mb")]
                parts.append(f"| {axis} | {point['value']:,} | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join([*parts, WHY])


def show(point: Mapping[str, Any], name: str) -> str:
    """Return a number of a point with its slope."""
    slope, value = point[f"{name}_slope"], point[name]
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return digits if slope is None else f"{digits} ({slope:+.2f})"


def group(points: Iterable[Mapping[str, Any]], name: str) -> list[tuple[str, Sequence[Any]]]:
    """Return the points of each value of a field, in order."""
    found: dict[str, list[Any]] = {}
    for point in points:
        found.setdefault(point[name], []).append(point)
    return list(found.items())


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw time and the program's memory of each family over what doubles."""
    families = group(found["points"], "family")
    figure = new_figure(3.2 * len(families), 5.5, dpi=90)
    grid = figure.subplots(2, len(families), squeeze=False)
    for column, (family, points) in enumerate(families):
        for line, (name, label) in enumerate((("ms", "ms"), ("program_mb", "program, MB"))):
            axes = grid[line][column]
            for axis, row in group(points, "axis"):
                steps = [2**i for i in range(len(row))]
                axes.plot(steps, [p[name] for p in row], marker="o", markersize=3, label=axis)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            middle = math.sqrt(math.prod(axes.get_ylim()))
            low, high = axes.get_ylim()  # what is flat is to look flat
            axes.set_ylim(min(low, middle / 4), max(high, middle * 4))
            axes.set(title=family if line == 0 else "", xlabel="times the first", ylabel=label)
            axes.grid(alpha=0.3)
        grid[0][column].legend(fontsize=7)
    figure.savefig(path)
