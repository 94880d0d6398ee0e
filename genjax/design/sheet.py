"""A sheet of designs with their scores: a picture, and the same as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genjax.data.charts import figure_pixels, new_figure
from genjax.data.codecs import ImageCodec, write_file
from genjax.data.pictures import png_bytes

COLUMNS = 8


def write_sheet(
    images: np.ndarray,
    columns: Mapping[str, np.ndarray],
    codec: ImageCodec,
    title: str,
    out: Path,
) -> Path:
    """Write designs as a PNG with the number and first column under each, and all columns as CSV
    beside it; return the path of the PNG.

    Args:
      images: float32 [N, H, W, C] in [-1, 1].
      columns: numbers of each design [N], by name.
      codec: codec of the images.
      title: line above them.
      out: path without suffix.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["design", *columns])
    for number, row in enumerate(zip(*columns.values(), strict=True), 1):
        writer.writerow([number, *(f"{value:.6g}" for value in row)])
    write_file(out, ".csv", buffer.getvalue().encode())
    return write_file(out, ".png", png_bytes(_draw(images, columns, codec, title)))


def _draw(
    images: np.ndarray, columns: Mapping[str, np.ndarray], codec: ImageCodec, title: str
) -> np.ndarray:
    across = min(COLUMNS, len(images))
    down = -(-len(images) // across)
    figure = new_figure(1.2 * across, 1.4 * down + 0.4, dpi=100)
    figure.suptitle(title, fontsize=9)
    shown = next(iter(columns.values()))
    for number, picture in enumerate(codec.decode(images)):
        axes = figure.add_subplot(down, across, number + 1)
        grey = picture.shape[-1] == 1
        axes.imshow(
            picture[..., 0] if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=255
        )
        axes.set_title(f"{number + 1}: {shown[number]:.3f}", fontsize=8, y=-0.22)
        axes.axis("off")
    return figure_pixels(figure)
