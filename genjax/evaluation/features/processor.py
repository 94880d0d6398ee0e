"""Prepares images for a network of Hugging Face's as its ``preprocessor_config.json`` says: resize,
crop, scale, normalise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genjax.errors import UserError
from genjax.interop.architecture import Options
from genjax.serial import json_text

FILE = "preprocessor_config.json"
RESAMPLERS = {number: Image.Resampling(number) for number in range(6)}
LARGEST = 4096  # side of an image, in pixels


@dataclass(frozen=True)
class Processor:
    """How images become the inputs of a network.

    Attributes:
      size: height and width after resizing; one number is the shorter side; () for no resizing.
      resampler: Pillow's filter.
      crop: height and width of the crop from the middle; None for none.
      scale: factor on 8-bit values.
      mean: subtracted from each channel.
      std: each channel is divided by it.
    """

    size: tuple[int, ...]
    resampler: Image.Resampling
    crop: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def find_sides(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the sides of an image of these sides after resizing, and after the crop.

        Raises:
          UserError: the crop is larger than the resized image.
        """
        resized = (height, width)
        if len(self.size) == 1:
            (short,) = self.size
            long = int(short * max(height, width) / min(height, width))
            resized = (short, long) if height <= width else (long, short)
        elif self.size:
            resized = (self.size[0], self.size[1])
        crop = resized if self.crop is None else self.crop
        if crop[0] > resized[0] or crop[1] > resized[1]:
            raise UserError(
                f"crop_size in {FILE} must be at most the resized image, "
                f"{resized[0]}x{resized[1]}, got {crop[0]}x{crop[1]}",
                "crop_size",
            )
        return resized, crop

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Prepare images [N, H, W, 1 or 3] in [-1, 1], which are rounded to 8 bits: float32 [N, H',
        W', 3]. Grey is repeated as RGB.
        """
        (rows, columns), (height, width) = self.find_sides(*images.shape[1:3])
        bytes_ = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
        bytes_ = np.broadcast_to(bytes_, (*images.shape[:3], 3))
        top, left = (rows - height) // 2, (columns - width) // 2
        made = np.empty((len(images), height, width, 3), np.float32)
        for place, image in zip(made, bytes_, strict=True):
            drawn = Image.fromarray(image)
            if drawn.size != (columns, rows):
                drawn = drawn.resize((columns, rows), self.resampler)
            place[:] = np.asarray(drawn)[top : top + height, left : left + width]
        mean, std = (np.asarray(part, np.float32) for part in (self.mean, self.std))
        return (made * np.float32(self.scale) - mean) / std

    def describe(self, height: int, width: int) -> str:
        """Describe what happens to images of these sides."""
        resized, crop = self.find_sides(height, width)
        words = "no resizing"
        if resized != (height, width):
            name = self.resampler.name.lower()
            words = f"resized {height}x{width} to {resized[0]}x{resized[1]} {name}"
        return words if crop == resized else f"{words}, cropped to {crop[0]}x{crop[1]}"


def read_processor(folder: Path, square: bool) -> Processor:
    """Read the processor of a folder.

    Args:
      square: whether a size that is one number is both sides, as in ViT's older files, instead of
        the shorter one.

    Raises:
      UserError: there is none, it is damaged, or it asks for something else.
    """
    options = read_options(folder / FILE)
    resampler = options.read_int("resample", 2, 0)
    if resampler not in RESAMPLERS:
        raise options.make_error("resample", "only Pillow's 0 to 5")
    for name in ("do_pad", "do_flip_channel_order", "do_reduce_labels"):
        if options.read_flag(name, False):
            raise options.make_error(name, "only false")
    resizes, crops = (
        options.read_flag("do_resize", True),
        options.read_flag("do_center_crop", False),
    )
    size = _read_size(options, "size", square) if resizes else ()
    crop = _read_size(options, "crop_size", True) if crops else None
    if crop is not None and len(crop) != 2:
        raise options.make_error("crop_size", "only a height and a width")
    rescales, normalises = (
        options.read_flag("do_rescale", True),
        options.read_flag("do_normalize", True),
    )
    return Processor(
        size,
        RESAMPLERS[resampler],
        None if crop is None else (crop[0], crop[1]),
        options.read_above(0, "rescale_factor", 1 / 255) if rescales else 1.0,
        _read_channels(options, "image_mean", -np.inf) if normalises else (0.0,) * 3,
        _read_channels(options, "image_std", 0) if normalises else (1.0,) * 3,
    )


def read_options(path: Path) -> Options:
    """Read a table of options in JSON.

    Raises:
      UserError: the file is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} has no {path.name}", str(path))
    values = json_text.parse(path.read_bytes(), str(path), finite=False)
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged: it is not a table of fields in JSON", str(path))
    return Options(values, str(path))


def _read_size(options: Options, name: str, square: bool) -> tuple[int, ...]:
    """Read sides: height and width, the shorter side, or one number."""
    value = options.values.get(name)
    if isinstance(value, Mapping):
        sides = Options(value, f"{name} of {options.where}")
        if set(value) == {"shortest_edge"}:
            found: tuple[int, ...] = (sides.read_int("shortest_edge"),)
        elif set(value) == {"height", "width"}:
            found = (sides.read_int("height"), sides.read_int("width"))
        else:
            raise options.make_error(name, "only height and width, or shortest_edge")
    else:
        side = options.read_int(name)
        found = (side, side) if square else (side,)
    if max(found) > LARGEST:
        raise options.make_refusal(name, f"<= {LARGEST}", value)
    return found


def _read_channels(options: Options, name: str, bound: float) -> tuple[float, ...]:
    """Read a number for each of three channels, above a bound."""
    value = options.values.get(name)
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(part, int | float) and part > bound for part in value)
    ):
        raise options.make_refusal(name, f"3 numbers above {bound:g}", value)
    return tuple(float(part) for part in value)
