"""Image files to arrays: whatever PIL opens becomes grey or RGB uint8 of one size."""

from __future__ import annotations

import io
import sys

import numpy as np
from PIL import Image, ImageOps

from genjax.errors import UserError

GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})
ORIENTATION = 0x0112  # the EXIF tag; 5 .. 8 turn the picture by a quarter


def decode(content: bytes, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """The pixels uint8 [H, W, C] of an image file.

    Turned upright as its EXIF tag says, transparency laid on white, 16 bits reduced to 8, the first frame of
    an animation. ``size`` (H, W) resizes with antialiasing to cover it and cuts the middle out.
    """
    image: Image.Image = Image.open(io.BytesIO(content))
    if image.mode == "L" and channels == 1 and size is None and not image.info:
        # the bulk of small grey sets, at half the time
        return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 1)
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # PIL's own conversion clips
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, channels)


def fit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels uint8 [H, W, C] resized with antialiasing to cover ``size`` (H, W), the middle cut out."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    resized = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(*size, pixels.shape[-1])


def header(content: bytes) -> tuple[tuple[int, int], bool]:
    """((H, W) as ``decode`` gives it, is it in colour) of an image file, without decoding its pixels.

    Raises:
      Exception: of many types, as PIL's readers do, when the file is no whole image.
    """
    image = Image.open(io.BytesIO(content))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {image.mode}), not 8- or 16-bit")
    width, height = image.size
    size = (width, height) if _orientation(image) >= 5 else (height, width)
    colour = image.mode not in GREY_MODES
    if image.format in ("JPEG", "MPO") and b"\xff\xd9" not in content[-4096:]:  # verify() reads no pixels of a JPEG
        raise ValueError("the file is cut off")
    image.verify()
    return size, colour


def _orientation(image: Image.Image) -> int:
    # asking a PNG without EXIF for it would decode its pixels
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return image.getexif().get(ORIENTATION, 1)


def check_size(size: tuple[int, int] | None) -> None:
    """Refuses what is no (height, width)."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size is {size}; it must be (height, width) in pixels")


def note(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)
