"""Stacked images: their channels are the inner images that the label names, drawn evenly and
once for all.
"""

import dataclasses
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from genjax.data.codecs import ImageCodec
from genjax.data.sources import Digits, Points, Stacked
from genjax.data.splits import Arrays, Lazy, dataset
from genjax.data.stream import batches
from genjax.errors import UserError


@dataclass(frozen=True)
class Small:
    """Few grey images, each of its own brightness."""

    channels: int = 1
    classes: Any = 3
    hidden: bool = False
    lazy: bool = False
    validation: bool = False

    def open(self):
        codec = ImageCodec(4, 4, self.channels, levels=17)
        raw = np.repeat(np.arange(12, dtype=np.uint8), 16 * self.channels).reshape(
            12, 4, 4, self.channels
        )
        label = (np.arange(12) % 3).astype(np.int32)
        if self.lazy:
            train = Lazy("image", lambda rows: (raw[rows], label[rows]), np.arange(9), codec)
        else:
            train = Arrays("image", raw[:9], label[:9] if self.classes else None, codec)
        test = Arrays("image", raw[9:], (label[9:] * 0 - 1 if self.hidden else label[9:]), codec)
        splits = {"train": train, "test": test} | ({"validation": test} if self.validation else {})
        return dataset(splits, classes=self.classes, fingerprint="small")


def drawn(source, split="train", count=None):
    data = source.open()
    return data, data.splits[split].batch(np.arange(count or len(data.splits[split])))


@pytest.mark.parametrize("split", ["train", "test"])
def test_channels_are_inner_images_of_the_digits_that_the_label_writes(split):
    data, batch = drawn(Stacked(Digits(), size=300, test_size=200), split)
    inner = Digits().open().splits[split]
    every = inner.batch(np.arange(len(inner)))
    known = {
        image.tobytes(): label for image, label in zip(every["image"], every["label"], strict=True)
    }
    assert batch["image"].shape == ({"train": 300, "test": 200}[split], 8, 8, 3)
    assert batch["image"].dtype == np.float32 and batch["label"].dtype == np.int32
    for image, label in zip(batch["image"], batch["label"], strict=True):
        digits = [known[np.ascontiguousarray(image[..., c, None]).tobytes()] for c in range(3)]
        assert "".join(map(str, digits)) == f"{label:03d}"
    assert data.spec.classes == 1000 and data.spec.shape == (8, 8, 3)
    assert data.spec.levels == data.codec.levels == 17


def test_labels_count_in_the_base_of_the_inner_classes():
    data, batch = drawn(Stacked(Small(), size=200, test_size=5))
    brightness = np.rint((batch["image"].mean((1, 2)) + 1) * 8).astype(
        int
    )  # [200, 3], the inner row
    np.testing.assert_array_equal(batch["label"], brightness % 3 @ [9, 3, 1])
    assert data.spec.classes == 27 and brightness.max() == 8
    # Held-out images alone are in the test split, training images alone in the other.
    held_out = data.splits["test"].batch(np.arange(5))["image"]
    assert np.rint((held_out.min() + 1) * 8) >= 9


def test_all_thousand_modes_come_as_often_as_chance_has_it():
    _, batch = drawn(Stacked(Digits(), size=50_000))
    inner = Digits().open().splits["train"].batch(np.arange(1500))["label"]
    share = np.bincount(inner) / 1500
    expected = np.einsum("a,b,c->abc", share, share, share).ravel() * 50_000
    counts = np.bincount(batch["label"], minlength=1000)
    assert counts.min() > 0
    assert 0.001 < chisquare(counts, expected).pvalue < 0.999


def test_the_mean_is_that_of_the_draws():
    data, batch = drawn(Stacked(Digits(), size=20_000))
    np.testing.assert_allclose(data.spec.mean, batch["image"].mean(0), atol=0.03)
    np.testing.assert_array_equal(data.spec.mean[..., 0], data.spec.mean[..., 2])


def test_examples_depend_on_seed_and_number_alone():
    (_, few), (_, many) = (
        drawn(Stacked(Digits(), size=50)),
        drawn(Stacked(Digits(), size=500, test_size=9), count=50),
    )
    for name in few:
        np.testing.assert_array_equal(few[name], many[name])
    split = Stacked(Digits(), size=50).open().splits["train"]
    some = split.batch(np.array([7, 3, 7]))
    np.testing.assert_array_equal(some["image"], few["image"][[7, 3, 7]])
    _, other = drawn(Stacked(Digits(), size=50, seed=1))
    assert (other["label"] != few["label"]).mean() > 0.9
    again = pickle.loads(pickle.dumps(split))  # as worker processes get it
    np.testing.assert_array_equal(again.batch(np.arange(50))["image"], few["image"])


def test_draws_are_pinned():
    """Another numpy must give the same."""
    split = Stacked(Digits(), size=4).open().splits["train"]
    np.testing.assert_array_equal(split.batch(np.arange(4))["label"], [846, 610, 230, 796])


def test_each_field_that_changes_the_data_changes_the_fingerprint():
    base = Stacked(Digits(), size=20, test_size=20)
    sources = [
        base,
        *(dataclasses.replace(base, **c) for c in ({"size": 21}, {"test_size": 21}, {"seed": 1})),
    ]
    prints = [source.open().fingerprint for source in [*sources, Stacked(Small(), 20, 20)]]
    assert len(set(prints)) == 5 and base.open().fingerprint == prints[0]


def test_a_source_that_is_read_lazily_gives_the_same():
    (_, memory), (data, lazy) = (drawn(Stacked(Small(lazy=lazy), 40, 5)) for lazy in (False, True))
    np.testing.assert_array_equal(lazy["image"], memory["image"])
    assert not data.splits["train"].in_memory and data.splits["test"].in_memory
    stream = batches(data.splits["train"], seed=0, position=0, batch_size=8)
    assert next(stream)["image"].shape == (8, 4, 4, 3)
    stream.close()


def test_a_validation_split_is_drawn_from_its_own():
    data, batch = drawn(Stacked(Small(validation=True), 40, 30), "validation")
    assert len(data.splits["validation"]) == 30 and np.rint((batch["image"].min() + 1) * 8) >= 9
    assert "validation" not in Stacked(Small(), 40, 30).open().splits
    test = data.splits["test"].batch(np.arange(30))
    assert not np.array_equal(test["label"], batch["label"])


def test_what_cannot_be_stacked_is_refused():
    with pytest.raises(
        UserError, match=r"Stacked needs grey images, but Small has image of shape \(4, 4, 3\)"
    ):
        Stacked(Small(channels=3)).open()
    with pytest.raises(
        UserError, match=r"Stacked needs grey images, but Points has points of shape \(2,\)"
    ):
        Stacked(Points(size=10, test_size=5)).open()
    with pytest.raises(UserError, match="Stacked needs labels, but Small has none"):
        Stacked(Small(classes=None)).open()
    with pytest.raises(
        UserError, match="Stacked needs labels, but those of Small's test split are hidden"
    ):
        Stacked(Small(hidden=True)).open()
    for sizes in ({"size": 0}, {"test_size": 0}):
        with pytest.raises(UserError, match="size must be from 1"):
            Stacked(Digits(), **sizes)
