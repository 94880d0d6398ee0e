"""Image grids and PNG files."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

CELL = 56  # pixels: an 8x8 digit shown smaller than this is hard to see
GAP = 2  # pixels between cells


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Arrange images in a grid, row by row.

    Args:
      images: images uint8 [N, H, W, C].
      columns: cells in a row; None makes the grid nearly square.

    Returns:
      One image uint8 [H', W', C]; small images are enlarged by a whole factor, and white lines
        separate the cells.
    """
    count, height, width, channels = images.shape
    if count == 0:
        raise ValueError("a grid needs at least one image")
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = -(-count // columns)
    factor = max(1, -(-CELL // max(height, width)))
    # Nearest neighbour shows pixels as they are.
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    cell_height, cell_width = height * factor + GAP, width * factor + GAP
    canvas = np.full(
        (rows * cell_height + GAP, columns * cell_width + GAP, channels), 255, np.uint8
    )
    for i, image in enumerate(images):
        top, left = GAP + i // columns * cell_height, GAP + i % columns * cell_width
        canvas[top : top + height * factor, left : left + width * factor] = image
    return canvas


def png_bytes(image: np.ndarray) -> bytes:
    """Encode an image uint8 [H, W, C], grey (C = 1) or RGB (C = 3), as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
