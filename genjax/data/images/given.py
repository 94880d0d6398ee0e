"""Read pictures that a person gives to a model: to be finished, or as a sketch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genjax.checks import Component
from genjax.data.codecs import ImageCodec, write_file
from genjax.data.images.decode import decode, find_transparent
from genjax.data.pictures import grid, png_bytes
from genjax.errors import UserError

FILL, MASK = "sampler.fill", "sampler.mask"
HOLE = 0.0  # grey, in model space


@dataclass(frozen=True)
class PictureGaps:
    """A picture of which a part is to be filled in, once for each sample.

    Attributes:
      image: the picture in model space, float32 [N, H, W, C], N times the same.
      mask: 1 where it is known, float32 [N, H, W, 1].
    """

    image: np.ndarray
    mask: np.ndarray

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        """What the family is given."""
        return {"image": self.image, "mask": self.mask}

    def write(self, samples: np.ndarray, codec: ImageCodec, out: Path) -> Path:
        """Write a grid as PNG: the known part on grey, then the samples [N, H, W, C]."""
        known = self.mask[:1] * self.image[:1] + (1 - self.mask[:1]) * HOLE
        cells = codec.decode(np.concatenate([known, samples]))
        return write_file(out, ".png", png_bytes(grid(cells)))


def read_picture_gaps(path: str, mask: str | None, variants: int, codec: Component) -> PictureGaps:
    """Read a picture and which part of it is to be filled in: what is transparent, or what is white
    in another picture, ``mask``.

    Raises:
      UserError: a file cannot be read or has another size than the run's images, or nothing, or
        everything, is to be filled in.
    """
    if not isinstance(codec, ImageCodec):
        raise UserError(f"{FILL} needs a run that has learned images", FILL)
    content = read_content(path, FILL)
    image = codec.encode(read_pixels(path, FILL, codec, codec.channels))
    if mask is not None:
        missing = read_pixels(mask, MASK, codec, 1)[..., 0] >= 128
    else:
        transparent = find_transparent(content)
        if transparent is None:
            raise UserError(
                f"{FILL}: no pixel of {path} is transparent: make the missing part transparent, or "
                "give --sampler.mask, a picture that is white there",
                FILL,
            )
        missing = transparent
    if missing.all() or not missing.any():
        part = "everything" if missing.all() else "nothing"
        raise UserError(f"{MASK}: {part} of {path} is to be filled in", MASK)
    known = (~missing)[None, ..., None].astype(np.float32)
    return PictureGaps(image[None].repeat(variants, 0), known.repeat(variants, 0))


def read_pixels(path: str, field: str, codec: ImageCodec, channels: int) -> np.ndarray:
    """Read a picture of the size of the codec's images, uint8 [H, W, channels].

    Raises:
      UserError: it cannot be read, or has another size.
    """
    try:
        pixels = decode(read_content(path, field), None, channels)
    except UserError:
        raise
    except Exception as error:  # PIL's readers raise many kinds
        raise UserError(f"{field}: {path} is not a complete image: {error}", field) from None
    if pixels.shape[:2] != (codec.height, codec.width):
        raise UserError(
            f"{field} must have {codec.height}x{codec.width} pixels as the images of the run, but "
            f"{path} has {pixels.shape[0]}x{pixels.shape[1]}: resize or crop it",
            field,
        )
    return pixels


def read_content(path: str, field: str) -> bytes:
    """Return the content of a file that an option names."""
    place = Path(path).expanduser()
    try:
        if place.exists() and not place.is_file():  # reading a pipe would wait for a writer
            raise UserError(f"{field}: {path} is not a file", field)
        return place.read_bytes()
    except OSError as error:
        raise UserError(f"{field}: {path} cannot be read: {error.strerror}", field) from None
