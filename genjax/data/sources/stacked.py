"""Stacked MNIST: three random digits as the channels of one image, to count a thousand modes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Batch, Dataset, Spec, Split
from genjax.data.sources.tfds import TFDS
from genjax.data.splits import DRAW, MOST_MADE, digest
from genjax.data.stream import raw_bits
from genjax.errors import UserError

CHANNELS = 3


@checks.frozen
class Stacked:
    """Combines three grey images of another source, drawn uniformly and independently, as the
    channels of an image.

    Metz et al., arXiv 1611.02163; the sizes are those of Lin et al. (PacGAN), arXiv 1712.04086. If
    the source has K classes, channels with the labels a, b, c have the label a K^2 + b K + c, one
    of K^3: for digits, the number that they write.

    Attributes:
      source: source of the grey images, with labels. "train" is drawn from its training images,
        every other split from its own, so that no held-out image is trained on in any channel.
      size: number of training examples.
      test_size: number of examples of every other split.
      seed: seed of the draws; a larger size keeps the examples of a smaller one.
    """

    source: Component = TFDS(name="mnist")
    size: int = 128_000
    test_size: int = 26_000
    seed: int = 0

    def __post_init__(self) -> None:
        checks.between(self, 1, MOST_MADE, "size", "test_size")
        checks.at_least(self, 0, "seed")

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, H, W, 3] and ``label`` int32 [B].

        Raises:
          UserError: the inner source has no labels, or no grey images.
        """
        inner = self.source.open()
        name = type(self.source).__name__
        if inner.spec.entry != "image" or inner.spec.shape[-1] != 1:
            raise UserError(
                f"Stacked needs grey images, but {name} has {inner.spec.entry} of shape "
                f"{inner.spec.shape}"
            )
        if inner.spec.classes is None:
            raise UserError(f"Stacked needs labels, but {name} has none")
        splits = {}
        for number, part in enumerate(("train", "test", "validation")):
            # The streams do not depend on which other splits exist.
            if part in inner.splits:
                if "label" not in inner.splits[part].batch(np.zeros(1, np.int64)):
                    raise UserError(
                        f"Stacked needs labels, but those of {name}'s {part} split are hidden"
                    )
                count = self.size if part == "train" else self.test_size
                splits[part] = Triples(
                    inner.splits[part], inner.spec.classes, self.seed, DRAW + number, count
                )
        spec = Spec(
            entry="image",
            shape=(*inner.spec.shape[:2], CHANNELS),
            mean=np.repeat(inner.spec.mean, CHANNELS, axis=-1),  # each channel is drawn uniformly
            classes=inner.spec.classes**CHANNELS,
            levels=inner.spec.levels,
        )
        height, width = inner.spec.shape[:2]
        codec = ImageCodec(height, width, CHANNELS, levels=inner.codec.levels)
        fields = f"stacked {self.size} {self.test_size} {self.seed}"
        fingerprint = digest([inner.fingerprint.encode(), fields.encode()])
        return Dataset(splits, spec, codec, fingerprint, inner.origins, inner.remarks)


@dataclass(frozen=True)
class Triples:
    """A split whose examples are combined when a batch is requested.

    Attributes:
      inner: split of grey images.
      classes: number of its labels.
      seed: seed of the draws.
      stream: Philox stream of the draws.
      size: number of examples.
    """

    inner: Split
    classes: int
    seed: int
    stream: int
    size: int

    @property
    def in_memory(self) -> bool:
        return self.inner.in_memory

    def __len__(self) -> int:
        return self.size

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """Rows of the inner split for each example [N, 3] int64, from three random words each."""
        words = raw_bits(self.seed, self.stream, CHANNELS * self.size)
        return (words % np.uint64(len(self.inner))).astype(np.int64).reshape(self.size, CHANNELS)

    def batch(self, indices: np.ndarray) -> Batch:
        found = self.inner.batch(self.rows[indices].ravel())
        image, label = found["image"], found["label"].reshape(-1, CHANNELS)
        channels = image.reshape(-1, CHANNELS, *image.shape[1:3])  # [B, 3, H, W]
        places = self.classes ** np.arange(CHANNELS)[::-1]
        return {
            "image": np.ascontiguousarray(np.moveaxis(channels, 1, -1)),
            "label": (label @ places).astype(np.int32),
        }
