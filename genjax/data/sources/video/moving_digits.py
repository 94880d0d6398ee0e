"""Moving MNIST: clips of digits that bounce in a square."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Batch, Dataset, Spec, Split
from genjax.data.sources.tfds import TFDS
from genjax.data.splits import DRAW, MOST_MADE, digest
from genjax.data.stream import raw_bits
from genjax.data.video.bouncing import draw_clip, find_paths, shrink
from genjax.data.video.codec import VideoCodec
from genjax.errors import UserError

WORDS = 4  # of randomness for each digit: which, row, column, direction
MEAN_OF = 512  # clips that the mean is taken of
UNIT = 2.0**-64


@checks.frozen
class MovingDigits:
    """Generates clips of digits that move in straight lines and bounce off the edges of a square
    (Moving MNIST: Srivastava et al., arXiv 1502.04681).

    Clip i of a split depends only on the seed and i. "train" shows training digits, every other
    split its own.

    Attributes:
      source: source of square grey images.
      side: height and width of a frame; 64 in the literature.
      digit: height and width of a digit, to which the images are reduced.
      digits: digits in a clip.
      frames: frames of a clip.
      step: length of a step between frames, as a share of the free path, ``side`` - ``digit``.
      size: number of training clips; they are drawn when needed.
      test_size: clips of every other split.
      seed: random seed.
    """

    source: Component = TFDS(name="mnist")
    side: int = 64
    digit: int = 28
    digits: int = 2
    frames: int = 20
    step: float = 0.1
    size: int = 100_000
    test_size: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "digit", "digits")
        checks.at_least(self, 2, "frames")
        checks.inside(self, 0, 1, "step")
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")
        if self.side <= self.digit:
            raise UserError(
                f"side must be > {self.digit} (digit), so that it can move, got {self.side}", "side"
            )

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, side, side, T], in [-1, 1].

        Raises:
          UserError: the inner source has no square grey images of at least the digit's size.
        """
        inner = self.source.open()
        shape = inner.spec.shape
        if inner.spec.entry != "image" or shape[0] != shape[1] or shape[2] != 1:
            raise UserError(
                f"MovingDigits needs square grey images, but {type(self.source).__name__} has "
                f"{inner.spec.entry} of shape {list(shape)}",
                "source",
            )
        if shape[0] < self.digit:
            raise UserError(
                f"digit must be <= {shape[0]}, the size of the images, got {self.digit}", "digit"
            )
        codec = VideoCodec(self.side, self.side)
        # The streams do not depend on which other splits exist.
        parts = [part for part in ("train", "test", "validation") if part in inner.splits]
        numbers = {"train": 0, "test": 1, "validation": 2}
        splits = {
            part: Clips(
                inner.splits[part],
                inner.codec,
                self,
                codec,
                DRAW + numbers[part],
                self.size if part == "train" else self.test_size,
            )
            for part in parts
        }
        known = splits["train"].batch(np.arange(min(MEAN_OF, self.size)))["image"]
        spec = Spec(
            entry="image",
            shape=known.shape[1:],
            mean=known.mean(0, dtype=np.float64).astype(np.float32),
            levels=codec.levels,
        )
        fields = (self.side, self.digit, self.digits, self.frames, self.step)
        text = f"moving {fields} {self.size} {self.test_size} {self.seed}"
        fingerprint = digest([inner.fingerprint.encode(), text.encode()])
        return Dataset(splits, spec, codec, fingerprint, inner.origins, inner.remarks)


@dataclass(frozen=True)
class Clips:
    """A split whose clips are drawn when a batch is requested.

    Attributes:
      inner: split of grey images.
      images: codec of the images.
      source: sizes, and seed of the draws.
      codec: codec of the clips.
      stream: Philox stream of the draws.
      size: number of clips.
    """

    inner: Split
    images: Component
    source: MovingDigits
    codec: VideoCodec
    stream: int
    size: int

    @property
    def in_memory(self) -> bool:
        return self.inner.in_memory

    def __len__(self) -> int:
        return self.size

    @functools.cached_property
    def words(self) -> np.ndarray:
        """Random words of each clip and digit, uint64 [N, K, 4]."""
        words = raw_bits(self.source.seed, self.stream, self.size * self.source.digits * WORDS)
        return words.reshape(self.size, self.source.digits, WORDS)

    def batch(self, indices: np.ndarray) -> Batch:
        words = self.words[indices]  # [B, K, 4]
        rows = (words[..., 0] % np.uint64(len(self.inner))).astype(np.int64)
        found = self.inner.batch(rows.ravel())["image"]
        digits = shrink(self.images.decode(found)[..., 0], self.source.digit)
        digits = digits.reshape(*rows.shape, *digits.shape[1:])  # [B, K, D, D]
        unit = words[..., 1:].astype(np.float64) * UNIT
        paths = find_paths(
            unit[..., :2], 2 * np.pi * unit[..., 2], self.source.frames, self.source.step
        )
        clips = [draw_clip(*one, self.source.side) for one in zip(digits, paths, strict=True)]
        return {"image": self.codec.encode(np.stack(clips)[..., None])}
