"""Lay out line charts as plain geometry, which a template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from genjax.report.curves import Curve, Series
from genjax.serve.pages.rendering import show_amount

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 66, 10, 12, 28  # margins
TICKS = 4  # approximate number of ticks of an axis
DECADES = 100.0  # ratio of the largest to the smallest value from which an axis is logarithmic
FAR = 8.0  # times the span of nearly all values from which the rest is left outside
NEARLY_ALL = 0.98


@dataclass(frozen=True)
class Line:
    """A series in the units of the drawing.

    Attributes:
      run: number of the run in the report.
      split: "train" or "eval".
      path: of an SVG path.
      dots: places of evaluations and of points without neighbours.
    """

    run: int
    split: str
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Cell:
    """The numbers of a series in the table below a chart."""

    run: int
    split: str
    first: float
    last: float
    least: float
    most: float
    gaps: int


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
      title: name of the number.
      logarithmic: whether the vertical axis is.
      outside: points that are beyond the vertical axis.
      gaps: values that were not finite.
      lines: the series.
      rows: distances from the top, and their numbers.
      columns: distances from the left, and their steps.
      cells: numbers of each series.
    """

    title: str
    logarithmic: bool
    outside: int
    gaps: int
    lines: tuple[Line, ...]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    cells: tuple[Cell, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def draw_chart(curve: Curve) -> Chart:
    """Lay out a curve."""
    values = sorted(value for series in curve.series for value in series.values)
    logarithmic = bool(values) and values[0] > 0 and values[-1] / values[0] >= DECADES
    low, high = _find_limits([math.log10(v) for v in values] if logarithmic else values)
    last = max((step for series in curve.series for step, _ in series.points), default=0.0)
    across = (WIDTH - LEFT - RIGHT) / max(last, 1.0)
    down = (HEIGHT - TOP - BOTTOM) / (high - low)

    def place(step: float, value: float) -> tuple[float, float]:
        scaled = math.log10(value) if logarithmic else value
        return round(LEFT + across * step, 1), round(TOP + down * (high - scaled), 1)

    def is_outside(value: float) -> bool:
        scaled = math.log10(value) if logarithmic else value
        return not low <= scaled <= high

    rows = _log_ticks(low, high) if logarithmic else list(find_ticks(low, high))
    return Chart(
        title=curve.name,
        logarithmic=logarithmic,
        outside=sum(is_outside(v) for series in curve.series for v in series.values),
        gaps=sum(series.gaps for series in curve.series),
        lines=tuple(_draw_line(series, place, is_outside) for series in curve.series),
        rows=tuple((place(0, value)[1], show_amount(value)) for value in rows),
        columns=tuple((place(step, 1.0)[0], show_amount(step)) for step in find_ticks(0, last)),
        cells=tuple(_summarise(series) for series in curve.series),
    )


def _find_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis for sorted values: of all, or where few lie far away, without
    them.
    """
    if not values:
        return 0.0, 1.0
    low, high = values[0], values[-1]
    cut = math.ceil((1 - NEARLY_ALL) / 2 * len(values))
    inner = values[cut : len(values) - cut]
    if len(inner) > 2 and high - low > FAR * (inner[-1] - inner[0]) > 0:
        margin = (inner[-1] - inner[0]) / 2
        low, high = max(low, inner[0] - margin), min(high, inner[-1] + margin)
    pad = 0.04 * (high - low) or abs(high) * 0.05 or 0.5
    return low - pad, high + pad


def _draw_line(
    series: Series,
    place: Callable[[float, float], tuple[float, float]],
    is_outside: Callable[[float], bool],
) -> Line:
    """Draw a series; gaps and points outside interrupt it."""
    parts: list[list[tuple[float, float]]] = [[]]
    for step, value in series.points:
        if math.isnan(value) or is_outside(value):
            parts.append([])
        else:
            parts[-1].append(place(step, value))
    whole = " ".join("M" + " ".join(f"{x:g},{y:g}" for x, y in part) for part in parts if part)
    dotted = [point for part in parts if series.split == "eval" or len(part) == 1 for point in part]
    return Line(series.run, series.split, whole, tuple(dotted))


def _summarise(series: Series) -> Cell:
    values = series.values or [math.nan]
    return Cell(
        series.run, series.split, values[0], values[-1], min(values), max(values), series.gaps
    )


def find_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten between powers of ten; with few of them, also 2 and 5 times them."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    every = max(1, math.ceil(len(powers) / (TICKS + 2)))
    factors = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [factor * 10.0**power for power in powers[::every] for factor in factors]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]
