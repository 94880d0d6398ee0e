"""Choose the curves of runs: a number over the steps, in training and on held-out data, thinned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genjax.report.collect import Collected, Row, to_number

POINTS = 60_000  # in a report, over all curves
FEWEST, ENOUGH = 40, 400  # points of a series
MOST = 80  # curves in a report
SPLITS = ("train", "eval")


@dataclass(frozen=True)
class Series:
    """A number of one run in one split.

    Attributes:
      run: number of the run in the report.
      split: "train" or "eval".
      points: steps and values, by step; NaN is a gap.
      gaps: values that were not finite, before thinning.
    """

    run: int
    split: str
    points: tuple[tuple[float, float], ...]
    gaps: int

    @property
    def values(self) -> list[float]:
        """The finite values."""
        return [value for _, value in self.points if math.isfinite(value)]


@dataclass(frozen=True)
class Curve:
    """A number of all runs that have it."""

    name: str
    series: tuple[Series, ...]


def find_curves(runs: Sequence[Collected]) -> tuple[list[Curve], int]:
    """Return the curves of the runs, and how many more there are than ``MOST``.

    The loss comes first, then what both splits have, then the rest by name; speeds are last.
    """
    names: dict[str, set[str]] = {}
    for run in runs:
        for row in run.rows:
            if row["split"] in SPLITS:
                for name, value in row.items():
                    if name not in ("step", "split") and _is_number(value):
                        names.setdefault(name, set()).add(row["split"])
    order = sorted(names, key=lambda name: _rank(name, names[name]))
    chosen = order[:MOST]
    pairs = max(1, 2 * len(runs) * len(chosen))
    most = min(max(POINTS // pairs, FEWEST), ENOUGH)
    curves = [Curve(name, tuple(_read_series(runs, name, most))) for name in chosen]
    return curves, len(order) - len(chosen)


def _is_number(value: object) -> bool:
    """Return whether a value of a row is a number, or stands for one that was not finite."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _rank(name: str, splits: set[str]) -> tuple[int, str]:
    if name.startswith("time/"):
        return (3, name)
    return (0 if name == "loss" else 1 if len(splits) == 2 else 2, name)


def _read_series(runs: Sequence[Collected], name: str, most: int) -> list[Series]:
    found = []
    for number, run in enumerate(runs):
        for split in SPLITS:
            points = _read_points(run.rows, split, name)
            if points:
                gaps = sum(math.isnan(value) for _, value in points)
                found.append(Series(number, split, tuple(thin(points, most)), gaps))
    return found


def _read_points(rows: Sequence[Row], split: str, name: str) -> list[tuple[float, float]]:
    return [
        (float(row["step"]), to_number(row[name]))
        for row in rows
        if row["split"] == split and name in row and _is_number(row[name])
    ]


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most ``most`` points with the ends, peaks and troughs of all; a gap stays one."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(3 * len(points) / (most - 2))
    kept = [0, len(points) - 1]
    for begin in range(0, len(points), size):
        part = range(begin, min(begin + size, len(points)))
        finite = [(points[i][1], i) for i in part if math.isfinite(points[i][1])]
        if finite:
            kept += [min(finite)[1], max(finite)[1]]
        kept += [i for i in part if not math.isfinite(points[i][1])][:1]
    return [points[i] for i in sorted(set(kept))]
