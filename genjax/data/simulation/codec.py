"""Codecs of trajectories: standardised states, and the files that a person opens."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.codecs import write_file
from genjax.data.pictures import grid, png_bytes
from genjax.errors import UserError

FRAME = 100  # milliseconds of a GIF's frame


@checks.frozen
class TrajectoryCodec:
    """Standardises the columns of trajectories.

    Attributes:
      columns: name of each number of a state.
      interval: time between two states.
      mean: mean of each column.
      scale: standard deviation of each column.
      system: equation that the trajectories solve; None if it is not known.
    """

    columns: tuple[str, ...]
    interval: float
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    system: Component = None

    def __post_init__(self) -> None:
        checks.above(self, 0, "interval", "scale")

    @property
    def shown(self) -> int:
        return 16

    @property
    def levels(self) -> None:
        return None

    @property
    def channels(self) -> int:
        """Numbers of a state, or of each place of a field."""
        return len(self.columns)

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Convert [..., T, C] in the units of the data to float32 in model space."""
        return ((raw - np.array(self.mean)) / np.array(self.scale)).astype(np.float32)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Convert [..., T, C] in model space to float32 in the units of the data."""
        return (np.asarray(samples) * np.array(self.scale) + self.mean).astype(np.float32)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write the decoded samples [N, T, C] at ``stem`` + ".csv", and draw them beside it.

        Returns:
          The path of the drawing.
        """
        states = self.decode(samples)
        n, length, channels = states.shape
        number = np.repeat(np.arange(n), length)
        time = np.tile(self.interval * np.arange(length), n)
        table = np.column_stack([number, time, states.reshape(-1, channels)])
        buffer = io.StringIO()
        header = ",".join(("trajectory", "time", *self.columns))
        np.savetxt(buffer, table, fmt="%.7g", delimiter=",", header=header, comments="")
        write_file(stem, ".csv", buffer.getvalue().encode())
        drawn = draw_trajectories({"": states}, self.columns, self.interval)
        return write_file(stem, ".png", png_bytes(drawn))


@checks.frozen
class FieldCodec(TrajectoryCodec):
    """Standardises the channels of fields, whose frames follow each other in the channels of an
    image.
    """

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Convert [..., T, H, W, C] in the units of the data to float32 [..., H, W, T C]."""
        frames = np.moveaxis(super().encode(raw), -4, -2)
        return frames.reshape(*frames.shape[:-2], -1)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Convert [..., H, W, T C] in model space to float32 [..., T, H, W, C]."""
        samples = np.asarray(samples)
        frames = samples.reshape(*samples.shape[:-1], -1, self.channels)
        return super().decode(np.moveaxis(frames, -2, -4))

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write the decoded samples [N, H, W, T C] at ``stem`` + ".npz", their last channel as a
        GIF, and its last frames as a PNG grid.

        Returns:
          The path of the GIF.
        """
        fields = self.decode(samples)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, fields=fields, interval=self.interval)
        write_file(stem, ".npz", buffer.getvalue())
        frames = [grid(frame) for frame in np.moveaxis(self.shade(fields), 1, 0)]
        write_file(stem, ".png", png_bytes(frames[-1]))
        return write_file(stem, ".gif", gif_bytes(frames))

    def shade(self, fields: np.ndarray) -> np.ndarray:
        """Return the last channel of fields [..., C] in greys, uint8 [..., 1]; white is 3 standard
        deviations above the mean.
        """
        values = (fields[..., -1:] - self.mean[-1]) / self.scale[-1]
        return np.rint(255 * np.clip((np.nan_to_num(values) + 1.5) / 4.5, 0, 1)).astype(np.uint8)


def draw_trajectories(
    named: dict[str, np.ndarray], columns: tuple[str, ...], interval: float
) -> np.ndarray:
    """Draw sets of trajectories [N, T, C] beside each other, uint8 [H, W, 3]: the first column over
    the last, and the first column over time.
    """
    figure = new_figure(4.5 * len(named), 6)
    axes: Any = figure.subplots(2, len(named), squeeze=False)
    for place, (name, states) in enumerate(named.items()):
        above, below = axes[:, place]
        time = interval * np.arange(states.shape[1])
        for one in states:
            above.plot(one[:, 0], one[:, -1], linewidth=0.6, alpha=0.8)
            below.plot(time, one[:, 0], linewidth=0.6, alpha=0.8)
        above.set(xlabel=columns[0], ylabel=columns[-1], title=name)
        below.set(xlabel="time", ylabel=columns[0])
    return figure_pixels(figure)


def gif_bytes(frames: list[np.ndarray]) -> bytes:
    """Encode frames uint8 [H, W, 1] or [H, W, 3] as an endless GIF."""
    pictures = [Image.fromarray(f[..., 0] if f.shape[-1] == 1 else f) for f in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=FRAME, loop=0
    )
    return buffer.getvalue()


def make_codec(
    states: np.ndarray, columns: tuple[str, ...], interval: float, system: Component = None
) -> TrajectoryCodec:
    """Make the codec of training trajectories [N, L, C], or of fields [N, L, H, W, C].

    Raises:
      UserError: a column never changes.
    """
    axes = tuple(range(states.ndim - 1))
    mean, scale = states.mean(axes, np.float64), states.std(axes, dtype=np.float64)
    for name, deviation in zip(columns, scale, strict=True):
        if not deviation > 0:
            raise UserError(f"trajectories must vary, but column {name} is constant", "columns")
    kind = TrajectoryCodec if states.ndim == 3 else FieldCodec
    if system is not None and system.mean is not None:
        mean, scale = system.mean, system.scale
    return kind(columns, interval, tuple(map(float, mean)), tuple(map(float, scale)), system)
