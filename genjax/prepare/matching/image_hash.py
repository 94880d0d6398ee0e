"""Find images that look alike, by perceptual hashes of 64 bits.

Both hashes use the grey image, so that size, format, slight noise, brightness or contrast change
few bits: ``dhash`` encodes where 8 rows of 9 means become brighter from left to right, ``phash``
which of the 64 lowest frequencies of the discrete cosine transform of 32x32 pixels exceed their
median (Zauner, 2010, "Implementation and benchmarking of perceptual image hash functions").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy.fft import dctn

from genjax import checks
from genjax.errors import UserError, unknown_name
from genjax.prepare.matching.components import group_equal, group_similar

BITS = 64
METHODS = ("dhash", "phash")


@checks.frozen
class ImageHash:
    """Joins images whose hashes differ in few bits.

    Images of a single colour all have the same hash, and images with little on a plain background
    have similar ones.

    Attributes:
      method: "dhash" or "phash"; the latter finds more and errs less on CIFAR-10 (see
        prepare_images).
      distance: largest number of different bits.
    """

    method: str = "phash"
    distance: int = 4

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("image_hash.method", self.method, METHODS)
        if not 0 <= self.distance < BITS // 2:
            raise UserError(
                f"image_hash.distance must be from 0 to {BITS // 2 - 1}, got {self.distance}",
                "distance",
            )

    def hash(self, image: Image.Image) -> int:
        """Return the hash, below 2^64, of an image of any mode and size."""
        bits = _differences(image) if self.method == "dhash" else _frequencies(image)
        return int.from_bytes(np.packbits(bits).tobytes())

    def hash_images(self, images: Iterable[Image.Image]) -> np.ndarray:
        """Return the hashes [N] uint64 of images, holding one image in memory at a time."""
        return np.fromiter((self.hash(image) for image in images), np.uint64)

    def cluster(self, hashes: np.ndarray) -> np.ndarray:
        """Return the group [N] int64 of each image with hashes [N] uint64: the smallest index among
        its duplicates.

        If at most d bits differ, at least one of d + 1 bands is equal, so only images that share a
        band are compared.
        """
        first = group_equal(hashes)
        distinct, inverse = np.unique(first, return_inverse=True)
        known = hashes[distinct]

        def same(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            return np.bitwise_count(known[left] ^ known[right]) <= self.distance

        return distinct[group_similar(self._bands(known), same, np.arange(len(known)))[inverse]]

    def _bands(self, hashes: np.ndarray) -> Iterable[np.ndarray]:
        edges = [BITS * band // (self.distance + 1) for band in range(self.distance + 2)]
        for begin, end in itertools.pairwise(edges):
            yield hashes >> np.uint64(begin) & np.uint64((1 << end - begin) - 1)


def _grey(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Return the grey image reduced to means [height, width] float32, on a white background."""
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    # Floats, because rounding would lose small differences.
    grey = image.convert("RGB").convert("L").convert("F")
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX), np.float32)


def _differences(image: Image.Image) -> np.ndarray:
    grey = _grey(image, 9, 8)
    return grey[:, 1:] > grey[:, :-1]


def _frequencies(image: Image.Image) -> np.ndarray:
    low = dctn(_grey(image, 32, 32), norm="ortho")[:8, :8]
    return low > np.median(low.ravel()[1:])  # without the mean, which tells nothing about shape
