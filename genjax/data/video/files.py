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


def read_frames(path: Path, most: int | None = None) -> np.ndarray:
    """Read the frames of a video file, uint8 [T, H, W, 3].

    Args:
      most: frames that are read; None for all.

    Raises:
      ValueError: it cannot be read, or holds no frame; the message says why.
      UserError: it is no GIF, and imageio is not installed.
    """
    frames = _read_gif(path, most) if path.suffix.lower() in GIF else _read_video(path, most)
    if not frames:
        raise ValueError("it holds no frame")
    return np.stack(frames)


def _read_gif(path: Path, most: int | None) -> list[np.ndarray]:
    frames = []
    try:
        with Image.open(path) as picture:
            for frame in ImageSequence.Iterator(picture):
                if len(frames) == most:
                    break
                frames.append(np.asarray(frame.convert("RGB")))
    except (UnidentifiedImageError, SyntaxError, OSError, EOFError) as error:
        raise ValueError(f"it is no GIF that can be read: {error}") from None
    return frames


def _read_video(path: Path, most: int | None) -> list[np.ndarray]:
    with explain_package(f"a {path.suffix} file"):
        import imageio.v3
        import imageio_ffmpeg  # noqa: F401 - imageio would name another cure
    frames: list[np.ndarray] = []
    try:
        for frame in imageio.v3.imiter(path, plugin="FFMPEG"):
            if len(frames) == most:
                break
            frames.append(np.asarray(frame))
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        reason = str(error).strip().splitlines()[-1:] or ["ffmpeg finds no frames"]
        raise ValueError(f"it is no {path.suffix} file that can be read: {reason[0]}") from None
    return frames


def resize_frames(frames: np.ndarray, height: int, width: int, channels: int) -> np.ndarray:
    """Resize and crop frames uint8 [T, H, W, 3] in the middle, to grey if ``channels`` is 1: uint8
    [T, height, width, channels].
    """
    _, rows, columns, _ = frames.shape
    scale = max(height / rows, width / columns)
    size = max(width, round(columns * scale)), max(height, round(rows * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    mode = "L" if channels == 1 else "RGB"
    found = np.empty((len(frames), height, width, channels), np.uint8)
    for i, frame in enumerate(frames):
        picture = Image.fromarray(frame).convert(mode).resize(size, Image.Resampling.BOX)
        cut = picture.crop((left, top, left + width, top + height))
        found[i] = np.asarray(cut).reshape(height, width, channels)
    return found


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
