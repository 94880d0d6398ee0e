"""scikit-learn's digits: real images that need no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import HOLD_OUT, Arrays, array_fingerprint, dataset
from genjax.data.stream import permutation

TRAIN = 1_500  # of 1,797 images; there is no published split by writer


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8x8 pixels with 17 grey levels: 1,500 for training, 297 for test.

    This is the test set of UCI's "Optical Recognition of Handwritten Digits", with labels, as
    shipped with scikit-learn.
    """

    def open(self) -> Dataset:
        """Open the data set; batches hold ``image`` float32 [B, 8, 8, 1] and ``label`` int32
        [B].
        """
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = bunch.images.astype(np.uint8)[..., None]  # [N, 8, 8, 1], 0 .. 16
        everything = Arrays(
            "image", images, bunch.target.astype(np.int32), ImageCodec(8, 8, 1, levels=17)
        )
        shuffled = permutation(0, HOLD_OUT, len(images))
        splits = {
            "train": everything.take(shuffled[:TRAIN]),
            "test": everything.take(shuffled[TRAIN:]),
        }
        return dataset(
            splits,
            classes=10,
            fingerprint=array_fingerprint(splits),
            class_names=tuple("0123456789"),
        )
