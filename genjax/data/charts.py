"""Draw charts: the one module that imports Matplotlib, and only when something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: float = 120) -> Figure:
    """Return an empty figure.

    Args:
      width: in inches.
      height: in inches.
      dpi: pixels per inch.
    """
    from matplotlib.figure import Figure  # without pyplot, which keeps global state

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def figure_pixels(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a window

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def show_percents(axis: Any) -> None:
    """Label an axis of shares in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1))


def add_circles(axes: Any, centres: np.ndarray, diameters: np.ndarray, **style: Any) -> None:
    """Draw circles around centres [N, 2], with diameters [N] in the units of the data."""
    from matplotlib.collections import EllipseCollection

    angles = 0 * diameters
    circles = EllipseCollection(
        diameters,
        diameters,
        angles,
        units="xy",
        offsets=centres,
        offset_transform=axes.transData,
        **style,
    )
    axes.add_collection(circles)
