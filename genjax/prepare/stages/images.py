"""Stages for images: standard form, and filters."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genjax import checks
from genjax.data.images.decode import check_size, decode, header
from genjax.data.pictures import png_bytes
from genjax.errors import UserError
from genjax.prepare.stage import RowStage, get_column, replace_column


@checks.frozen
class StandardImages(RowStage):
    """Converts images to PNG files of one mode and perhaps one size, upright, on a white
    background.

    Attributes:
      channels: 1 (grey) or 3 (RGB).
      size: (height, width) to which images are resized and cropped in the middle; None keeps sizes.
      column: column of the image files.
    """

    channels: int = 3
    size: tuple[int, int] | None = None
    column: str = "image"

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.channels not in (1, 3):
            raise UserError(
                f"channels must be 1 (grey) or 3 (RGB), got {self.channels}", "channels"
            )

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        found = [
            png_bytes(decode(content, self.size, self.channels))
            for content in _images(table, self.column)
        ]
        return replace_column(table, self.column, found), [None] * len(table)


@checks.frozen
class ImageSize(RowStage):
    """Drops images that are too small, too large or too elongated.

    Attributes:
      least: fewest pixels of the shorter side.
      most: most pixels of the longer side; None for no limit.
      aspect: largest ratio of the longer to the shorter side.
      column: column of the image files.
    """

    least: int = 1
    most: int | None = None
    aspect: float = float("inf")
    column: str = "image"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "least", "aspect")
        checks.ordered(self, "least", "most")

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        return table, [
            self._find_fault(*sorted(header(content).size))
            for content in _images(table, self.column)
        ]

    def _find_fault(self, short: int, long: int) -> str | None:
        if short < self.least:
            return "too small"
        if self.most is not None and long > self.most:
            return "too large"
        return "too long a shape" if long > self.aspect * short else None


@checks.frozen
class Blur(RowStage):
    """Drops images without edges, by the variance of the Laplacian of the grey image (Pech-Pacheco
    et al., 2000).

    Attributes:
      least: smallest variance of the Laplacian, for pixels from 0 to 255.
      column: column of the image files.
    """

    least: float = 50.0
    column: str = "image"

    def __post_init__(self) -> None:
        checks.at_least(self, 0, "least")

    def rows(self, table: pa.Table) -> tuple[pa.Table, list[str | None]]:
        sharp = [
            sharpness(decode(content, None, 1)[..., 0]) for content in _images(table, self.column)
        ]
        return table, ["blurred" if each < self.least else None for each in sharp]


def sharpness(grey: np.ndarray) -> float:
    """Return the variance of the Laplacian of grey pixels [H, W]; 0 with fewer than 3 rows or
    columns.
    """
    x = grey.astype(np.float64)
    if min(x.shape) < 3:
        return 0.0
    inner = x[1:-1, 1:-1]
    return float((x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * inner).var())


def _images(table: pa.Table, column: str) -> list[bytes]:
    found = get_column(table, column).to_pylist()
    if not all(isinstance(content, bytes) for content in found):
        raise UserError(f"the column {column!r} must hold image files", column)
    return found
