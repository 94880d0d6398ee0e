"""Charts are plain geometry: a template draws them as SVG, with a table of the same numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genjax.serve.pages.rendering import show_amount

WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 26  # margins
LABELS = 6  # maximum number of labels below a chart
TICKS = 4  # approximate number of ticks beside a chart
WIDEST = 90  # maximum room of a bar


@dataclass(frozen=True)
class Bar:
    """A bar, in the units of the drawing."""

    label: str
    value: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """Bars over labels.

    Attributes:
      title: title of the chart.
      first: name of the labels, such as "Day".
      second: name of the values, such as "Responses".
      rows: labels and values, as in the table.
      bars: bars of the chart.
      ticks: distances from the top, and their numbers.
      labels: distances from the left, and their words.
    """

    title: str
    first: str
    second: str
    rows: tuple[tuple[str, float | None], ...]
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    labels: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


def draw_chart(
    title: str, first: str, second: str, rows: Sequence[tuple[str, float | None]]
) -> Chart:
    """Lay out bars; a row without a value is a gap."""
    values = [value for _, value in rows if value is not None]
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    step = _find_step(high - low)
    low, high = step * math.floor(low / step), step * math.ceil(high / step)
    high = high if high > low else low + step
    scale = (HEIGHT - TOP - BOTTOM) / (high - low)
    place = min((WIDTH - LEFT - RIGHT) / max(1, len(rows)), WIDEST)
    bars = []
    for number, (label, value) in enumerate(rows):
        if value is not None:
            top = TOP + scale * (high - max(value, 0.0))
            height = max(scale * abs(value), 0.0)
            x = LEFT + place * (number + 0.1)
            bars.append(
                Bar(
                    label,
                    value,
                    round(x, 1),
                    round(top, 1),
                    round(0.8 * place, 1),
                    round(height, 1),
                )
            )
    count = round((high - low) / step)
    ticks = [(TOP + scale * (high - low - step * i), low + step * i) for i in range(count + 1)]
    every = max(1, math.ceil(len(rows) / LABELS))
    labels = [
        (round(LEFT + place * (number + 0.5), 1), label)
        for number, (label, _) in enumerate(rows)
        if number % every == 0
    ]
    return Chart(
        title,
        first,
        second,
        tuple(rows),
        tuple(bars),
        tuple((round(y, 1), show_amount(value)) for y, value in ticks),
        tuple(labels),
    )


def _find_step(span: float) -> float:
    """Return a round distance between ticks: 1, 2 or 5 times a power of ten."""
    if span <= 0:
        return 1.0
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
