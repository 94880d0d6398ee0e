"""Labels are checked as data enter: at once in memory, and on reading if they are lazy."""

import numpy as np
import pytest

from genjax.data.codecs import ImageCodec, PointsCodec
from genjax.data.splits import Arrays, Lazy, dataset
from genjax.errors import UserError

CODEC = ImageCodec(2, 2, 1)


def images(count):
    return np.zeros((count, 2, 2, 1), np.uint8)


@pytest.mark.parametrize("wrong", [3, -1])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_label_out_of_range_is_refused_at_once_in_memory(split, wrong):
    labels = {"train": np.array([0, 1, 2]), "test": np.array([0, 1, 2])}
    labels[split][1] = wrong
    splits = {name: Arrays("image", images(3), label, CODEC) for name, label in labels.items()}
    with pytest.raises(UserError, match="labels must be from 0 to 2, got"):
        dataset(splits, classes=3, fingerprint="")


def test_a_label_out_of_range_is_refused_when_it_is_read():
    labels = np.array([0] * 5000 + [7])
    lazy = Lazy("image", lambda rows: (images(len(rows)), labels[rows]), np.arange(5001), CODEC)
    opened = dataset({"train": lazy.take(np.arange(5000)), "test": lazy}, classes=3, fingerprint="")
    opened.splits["test"].batch(np.arange(10))
    with pytest.raises(UserError, match="labels must be from 0 to 2, got 7 to 7"):
        opened.splits["test"].batch(np.array([5000]))
    with pytest.raises(UserError, match="labels must be from"):
        opened.splits["test"].take(np.array([5000])).batch(np.array([0]))


def test_the_spec_knows_the_levels_of_images_and_that_points_have_none():
    seventeen = Arrays("image", images(3), None, ImageCodec(2, 2, 1, levels=17))
    assert dataset({"train": seventeen}, classes=None, fingerprint="").spec.levels == 17
    points = Arrays("points", np.zeros((3, 2), np.float32), None, PointsCodec(2))
    assert dataset({"train": points}, classes=None, fingerprint="").spec.levels is None


def test_a_split_whose_labels_are_hidden_has_none():
    """TFDS writes -1 for them."""
    splits = {
        "train": Arrays("image", images(3), np.array([0, 1, 2]), CODEC),
        "test": Arrays("image", images(3), np.full(3, -1), CODEC),
        "validation": Lazy(
            "image", lambda rows: (images(len(rows)), np.full(len(rows), -1)), np.arange(3), CODEC
        ),
    }
    opened = dataset(splits, classes=3, fingerprint="").splits
    assert "label" in opened["train"].batch(np.arange(2))
    assert all("label" not in opened[name].batch(np.arange(2)) for name in ("test", "validation"))
