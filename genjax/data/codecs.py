"""Codecs that convert raw examples to model space and back, and to files that a person opens."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.charts import new_figure
from genjax.data.pictures import grid, png_bytes
from genjax.errors import UserError
from genjax.machine import disk


@checks.frozen
class ImageCodec:
    """Converts integer images to floats in [-1, 1].

    Attributes:
      height: height in pixels.
      width: width in pixels.
      channels: 1 (grey) or 3 (RGB).
      levels: number of values of a raw pixel, 0 .. levels - 1.
    """

    height: int
    width: int
    channels: int
    levels: int = 256

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "height", "width")
        checks.numbers(self, ("channels",), "1 or 3", lambda x: x in (1, 3))
        checks.between(self, 2, 256, "levels")

    @property
    def shown(self) -> int:
        return 64

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Convert uint8 [..., H, W, C] in 0 .. levels - 1 to float32 in [-1, 1]."""
        return raw.astype(np.float32) / np.float32((self.levels - 1) / 2) - np.float32(1)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Convert floats [..., H, W, C], clipped to [-1, 1], to uint8 in 0 .. 255.

        The range does not depend on ``levels``, so that viewers show the image; NaN becomes black.
        """
        unit = np.clip(np.nan_to_num(np.asarray(samples, np.float32), nan=-1.0), -1, 1)
        return np.rint((unit + 1) * 127.5).astype(np.uint8)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write samples [N, H, W, C] in model space as a PNG grid; return its path."""
        return write_file(stem, ".png", png_bytes(grid(self.decode(samples))))


@checks.frozen
class PointsCodec:
    """Standardises points if the statistics are given.

    Attributes:
      dim: number of coordinates of a point.
      mean: the mean of each coordinate, which is subtracted; None subtracts nothing.
      scale: what each coordinate is divided by; None for 1.
    """

    dim: int
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if values is not None and len(values) != self.dim:
                raise UserError(
                    f"{name} has {len(values)} numbers for points of {self.dim} coordinates"
                )
        checks.above(self, 0, "scale")

    @property
    def shown(self) -> int:
        return 2000

    @property
    def levels(self) -> None:
        return None

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Convert [..., D] in the units of the data to float32 in model space."""
        return ((raw - self._mean()) / self._scale()).astype(np.float32)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Convert [..., D] in model space to float32 in the units of the data."""
        return (np.asarray(samples) * self._scale() + self._mean()).astype(np.float32)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write the decoded samples [N, D] at ``stem`` + ".csv", and points in two dimensions as a
        scatter plot beside it.

        Returns:
          The path of the plot, or of the table if there is no plot.
        """
        points = self.decode(samples)
        buffer = io.StringIO()
        header = ",".join(f"x{i}" for i in range(self.dim))
        np.savetxt(buffer, points, fmt="%.9g", delimiter=",", header=header, comments="")
        table = write_file(stem, ".csv", buffer.getvalue().encode())
        return write_file(stem, ".png", _scatter(points)) if self.dim == 2 else table

    def _mean(self) -> np.ndarray:
        return np.zeros(self.dim) if self.mean is None else np.asarray(self.mean)

    def _scale(self) -> np.ndarray:
        return np.ones(self.dim) if self.scale is None else np.asarray(self.scale)


def _scatter(points: np.ndarray) -> bytes:
    """Return a scatter plot of points [N, 2] as PNG."""
    figure = new_figure(5, 5)
    axes = figure.add_subplot()
    axes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.6, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_file(stem: Path, suffix: str, content: bytes) -> Path:
    """Writes ``content`` at ``stem`` + ``suffix``, making its folder; returns the path."""
    # Not with_suffix, which would cut "step_1.5"; only methods that etils.epath has, too.
    path = stem.parent / f"{stem.name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write(path, content)
    return path
