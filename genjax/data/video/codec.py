"""The codec of video clips: frames in the channels of an image, and the files that a person
opens.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from genjax import checks
from genjax.data.codecs import write_file
from genjax.data.images.decode import note
from genjax.data.pictures import grid, png_bytes
from genjax.data.video.files import gif_bytes, mp4_bytes
from genjax.errors import UserError


@checks.frozen
class VideoCodec:
    """Converts clips of integer frames to floats in [-1, 1], the frames one after another in the
    channels of an image, so that every model and evaluator of images takes them.

    Attributes:
      height: height in pixels.
      width: width in pixels.
      channels: of a frame, 1 (grey) or 3 (RGB).
      rate: frames per second of the files that are written.
    """

    height: int
    width: int
    channels: int = 1
    rate: float = 10.0

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "height", "width")
        checks.numbers(self, ("channels",), "1 or 3", lambda x: x in (1, 3))
        checks.above(self, 0, "rate")

    @property
    def shown(self) -> int:
        return 16

    @property
    def levels(self) -> int:
        return 256

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Convert uint8 [..., T, H, W, C] to float32 [..., H, W, T C] in [-1, 1]."""
        frames = np.moveaxis(raw, -4, -2)  # [..., H, W, T, C]
        values = frames.reshape(*frames.shape[:-2], -1).astype(np.float32)
        return values / np.float32(127.5) - np.float32(1)

    def cut_frames(self, samples: np.ndarray) -> np.ndarray:
        """Convert floats [..., H, W, T C], clipped to [-1, 1], to uint8 [..., T, H, W, C]; NaN
        becomes black.
        """
        unit = np.clip(np.nan_to_num(np.asarray(samples, np.float32), nan=-1.0), -1, 1)
        frames = np.rint((unit + 1) * 127.5).astype(np.uint8)
        frames = frames.reshape(*frames.shape[:-1], -1, self.channels)
        return np.moveaxis(frames, -2, -4)

    def decode(self, samples: np.ndarray) -> np.ndarray:
        """Lay the frames of each clip out as one picture, row by row: floats [..., H, W, T C] to
        uint8 [..., H', W', C].
        """
        frames = self.cut_frames(samples)
        *lead, count, height, width, channels = frames.shape
        columns = math.ceil(math.sqrt(count))
        rows = -(-count // columns)
        whole = np.zeros((*lead, rows * columns, height, width, channels), np.uint8)
        whole[..., :count, :, :, :] = frames
        whole = whole.reshape(*lead, rows, columns, height, width, channels)
        return whole.swapaxes(-4, -3).reshape(*lead, rows * height, columns * width, channels)

    def write(self, samples: np.ndarray, stem: Path) -> Path:
        """Write samples [N, H, W, T C] in model space at ``stem`` + ".gif" and ".mp4", the clips
        beside each other, and a row of frames of each at ".png"; return the GIF's path.

        Without the package imageio-ffmpeg there is no MP4, and a line says so.
        """
        clips = self.cut_frames(samples)
        frames = [grid(frame) for frame in clips.swapaxes(0, 1)]
        write_file(stem, ".png", png_bytes(lay_rows(clips)))
        try:
            write_file(stem, ".mp4", mp4_bytes(frames, self.rate))
        except UserError as error:
            note(str(error))
        return write_file(stem, ".gif", gif_bytes(frames, self.rate))


def lay_rows(clips: np.ndarray) -> np.ndarray:
    """Lay the frames of clips uint8 [N, T, H, W, C] out, a row for each clip: [H', W', C]."""
    return grid(clips.reshape(-1, *clips.shape[2:]), columns=clips.shape[1])
