"""Plot the distribution of each column of a table, for one set of rows or several side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from genjax.data.charts import figure_pixels, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = 36  # most columns that are drawn
BINS = 30
LONGEST = 12  # most categories that are drawn, and characters of a name


def marginals(tables: Mapping[str, Mapping[str, np.ndarray]]) -> np.ndarray:
    """Plot the first ``PANELS`` columns of tables with the same columns, as uint8 [H, W, 3].

    Args:
      tables: columns by name for each set of rows; numbers float64 [N], categories object [N].
    """
    names = list(next(iter(tables.values())))[:PANELS]
    across = math.ceil(math.sqrt(len(names)))
    down = -(-len(names) // across)
    figure = new_figure(1 + 2 * across, 0.5 + 1.6 * down, dpi=80)
    for i, name in enumerate(names):
        axes = figure.add_subplot(down, across, i + 1)
        axes.set_title(name, fontsize=7)
        axes.tick_params(labelsize=6)
        axes.set_yticks([])
        columns = {label: columns[name] for label, columns in tables.items()}
        if all(values.dtype.kind == "f" for values in columns.values()):
            _histogram(axes, columns)
        else:
            _bars(axes, columns)
        if i == 0 and len(columns) > 1:
            axes.legend(fontsize=6)
    return figure_pixels(figure)


def _histogram(axes: Axes, columns: Mapping[str, np.ndarray]) -> None:
    known = {label: values[np.isfinite(values)] for label, values in columns.items()}
    together = np.concatenate(list(known.values()))
    if not len(together):
        return
    edges = np.histogram_bin_edges(together, BINS)
    for label, values in known.items():
        axes.hist(values, edges.tolist(), density=True, histtype="step", label=label)


def _bars(axes: Axes, columns: Mapping[str, np.ndarray]) -> None:
    counted = {label: _shares(values) for label, values in columns.items()}
    most = {
        value: max(share.get(value, 0) for share in counted.values())
        for s in counted.values()
        for value in s
    }
    values = sorted(sorted(most, key=lambda value: -most[value])[:LONGEST])
    width = 0.8 / len(counted)
    for number, (label, share) in enumerate(counted.items()):
        heights = [share.get(value, 0) for value in values]
        axes.bar(np.arange(len(values)) + number * width, heights, width, label=label)
    axes.set_xticks(np.arange(len(values)), [value[:LONGEST] for value in values])


def _shares(values: np.ndarray) -> dict[str, float]:
    """Return the share of each category; missing values are called "(missing)"."""
    words, counts = np.unique(
        ["(missing)" if value is None else str(value) for value in values], return_counts=True
    )
    return dict(zip(words.tolist(), (counts / len(values)).tolist(), strict=True))
