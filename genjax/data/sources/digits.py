"""scikit-learn's digits: real images that need no download."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Dataset
from genjax.data.splits import HOLD_OUT, Arrays, array_fingerprint, dataset
from genjax.data.stream import permutation

FILE = Path("datasets") / "data" / "digits.csv.gz"  # within scikit-learn
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
        rows = np.loadtxt(_find_file(), delimiter=",", dtype=np.uint8)  # [N, 64 + 1], 0 .. 16
        images, labels = rows[:, :-1].reshape(-1, 8, 8, 1), rows[:, -1].astype(np.int32)
        everything = Arrays("image", images, labels, ImageCodec(8, 8, 1, levels=17))
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


def _find_file() -> Path:
    """Return the file without importing scikit-learn, which takes a second."""
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None, "setup.cfg requires it"
    return Path(package.origin).parent / FILE
