"""Read and write video files: GIF by Pillow, MP4 and the like by imageio with its own ffmpeg."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from genjax.errors import UserError

GIF = frozenset({".gif"})
OTHERS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"})  # read by ffmpeg
EVEN = 2  # sides of an MP4 are multiples of it


@contextlib.contextmanager
def explain_package(what: str) -> Iterator[None]:
    """Say which extra to install if a package for video is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        cure = "pip install 'genjax-train[video]'"
        raise UserError(f"{what} needs {error.name}: {cure}", "video") from None


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video file, uint8 [H, W, 3] each.

    Raises:
      ValueError: it cannot be read, or holds no frame; the message says why.
      UserError: it is no GIF, and imageio is not installed.
    """
    count = 0
    for frame in _read_gif(path) if path.suffix.lower() in GIF else _read_video(path):
        yield frame
        count += 1
    if not count:
        raise ValueError("it holds no frame")


def _read_gif(path: Path) -> Iterator[np.ndarray]:
    try:
        with Image.open(path) as picture:
            for frame in ImageSequence.Iterator(picture):
                yield np.asarray(frame.convert("RGB"))
    except (UnidentifiedImageError, SyntaxError, OSError, EOFError) as error:
        raise ValueError(f"it is no GIF that can be read: {error}") from None


def _read_video(path: Path) -> Iterator[np.ndarray]:
    with explain_package(f"a {path.suffix} file"):
        import imageio_ffmpeg  # noqa: F401 - imageio would name another cure
        from imageio.v3 import imiter
    try:
        for frame in imiter(path, plugin="FFMPEG"):
            yield np.asarray(frame)
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        reason = str(error).strip().splitlines()[-1:] or ["ffmpeg finds no frames"]
        raise ValueError(f"it is no {path.suffix} file that can be read: {reason[0]}") from None


def resize_frame(frame: np.ndarray, size: tuple[int, int], channels: int) -> np.ndarray:
    """Resize a frame uint8 [H, W, 3] to cover ``size``, cut it in the middle, and turn it grey if
    ``channels`` is 1: uint8 [height, width, channels].
    """
    (rows, columns, _), (height, width) = frame.shape, size
    scale = max(height / rows, width / columns)
    covering = max(width, round(columns * scale)), max(height, round(rows * scale))
    left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
    picture = Image.fromarray(frame).convert("L" if channels == 1 else "RGB")
    picture = picture.resize(covering, Image.Resampling.BOX)
    cut = picture.crop((left, top, left + width, top + height))
    return np.asarray(cut).reshape(height, width, channels)


def gif_bytes(frames: list[np.ndarray], rate: float) -> bytes:
    """Encode frames uint8 [H, W, 1] or [H, W, 3] as an endless GIF of ``rate`` frames a second."""
    pictures = [Image.fromarray(f[..., 0] if f.shape[-1] == 1 else f) for f in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=max(20, round(1000 / rate)),  # viewers slow shorter ones down
        loop=0,
    )
    return buffer.getvalue()


def mp4_bytes(frames: list[np.ndarray], rate: float) -> bytes:
    """Encode frames uint8 [H, W, 1] or [H, W, 3] as MP4 (H.264); odd sides get a black line.

    Raises:
      UserError: imageio-ffmpeg is not installed.
    """
    with explain_package("an MP4 file"):
        import imageio_ffmpeg
    height, width, _ = frames[0].shape
    below, beside = height % EVEN, width % EVEN
    with tempfile.TemporaryDirectory(prefix="genjax_video_") as folder:
        path = Path(folder) / "clip.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(path), (width + beside, height + below), fps=rate, macro_block_size=EVEN
        )
        writer.send(None)
        for frame in frames:
            colour = np.broadcast_to(frame, (height, width, 3))
            whole = np.pad(colour, ((0, below), (0, beside), (0, 0)))
            writer.send(np.ascontiguousarray(whole))
        writer.close()
        return path.read_bytes()
