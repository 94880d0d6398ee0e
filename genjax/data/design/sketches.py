"""Sketches: the edges of images, and files that people draw."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from genjax import checks
from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Batch, Dataset, HasScenes, Split
from genjax.data.images.given import read_pixels
from genjax.data.sources.captioned import Scene
from genjax.data.splits import digest
from genjax.errors import UserError

STEEPEST = 4.0  # gradient that Sobel's filter finds at a step from 0 to 1
FIELD = "sampler.sketch"


def find_edges(images: np.ndarray, steep: float = 0.25) -> np.ndarray:
    """Find the edges of images [N, H, W, C] in [-1, 1]: float32 [N, H, W, 1], 1 on an edge.

    An edge is where the gradient by Sobel's filter, of any channel, reaches ``steep`` times that at
    a step from black to white. What lies beyond [-1, 1] is clipped.
    """
    planes = np.moveaxis((np.clip(images, -1, 1) + 1) / 2, -1, 1)  # [N, C, H, W]
    flat = planes.reshape(-1, *planes.shape[2:])
    sizes = [ndimage.generic_gradient_magnitude(x, ndimage.sobel, mode="nearest") for x in flat]
    largest = np.reshape(sizes, planes.shape).max(1)[..., None]
    return (largest >= steep * STEEPEST).astype(np.float32)


def read_sketch(path: str, codec: Component) -> np.ndarray:
    """Read a sketch as float32 [H, W, 1], 1 on a line; dark lines on a light ground count as light
    ones on dark.

    Raises:
      UserError: the file is no picture, or has another size than the images of the codec.
    """
    if not isinstance(codec, ImageCodec):
        raise UserError(f"{FIELD} needs a run that has learned images", FIELD)
    grey = read_pixels(path, FIELD, codec, 1)[..., 0]  # [H, W]
    lines = grey >= 128
    if lines.all() or not lines.any():
        raise UserError(f"{FIELD}: {path} shows no lines", FIELD)
    return (lines if lines.mean() <= 0.5 else ~lines).astype(np.float32)[..., None]


@checks.frozen
class Sketched:
    """Images of another source, with their edges as sketches.

    Attributes:
      data: source of the images.
      steep: gradient from which a pixel is an edge, see ``find_edges``.
    """

    data: Component
    steep: float = 0.25

    def __post_init__(self) -> None:
        checks.between(self, 0.01, 1, "steep")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``sketch`` float32 [B, H, W, 1] besides what they held.

        Raises:
          UserError: the data are not images.
        """
        data = self.data.open()
        if data.spec.entry != "image":
            raise UserError(f"Sketched needs images, but the data are {data.spec.entry}", "data")
        return replace(
            data,
            splits={name: _sketch(split, self.steep) for name, split in data.splits.items()},
            spec=replace(data.spec, sketch=(*data.spec.shape[:2], 1)),
            fingerprint=digest([data.fingerprint.encode(), f"edges {self.steep}".encode()]),
        )


@dataclass(frozen=True)
class SketchedSplit:
    """A split with the edges of each image.

    Attributes:
      whole: the split of images.
      steep: gradient from which a pixel is an edge.
    """

    whole: Split
    steep: float

    @property
    def in_memory(self) -> bool:
        return self.whole.in_memory

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: np.ndarray) -> Batch:
        batch = self.whole.batch(indices)
        return {**batch, "sketch": find_edges(batch["image"], self.steep)}


@dataclass(frozen=True)
class SketchedScenes(SketchedSplit):
    """A split of pictures of known content, with their edges.

    Attributes:
      scenes: content of each picture.
    """

    scenes: tuple[Scene, ...]


def _sketch(split: Split, steep: float) -> Split:
    if isinstance(split, HasScenes):
        return SketchedScenes(split, steep, tuple(split.scenes))
    return SketchedSplit(split, steep)
