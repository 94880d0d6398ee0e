"""Memorisation: planted copies are found, fresh images are not, and the false alarms are as
many as promised.
"""

import dataclasses
import os

import numpy as np
import pytest
from scipy.stats import binom

from genjax.data.pictures import CELL, GAP
from genjax.data.sources import TFDS, Digits, Points
from genjax.errors import UserError
from genjax.evaluation.images.memorisation import (
    Memorisation,
    are_authentic,
    find_copies,
    find_distinct,
    find_near,
    find_threshold,
)
from genjax.families.classifier import Classifier
from genjax.nets.mlp import MLPBackbone
from tests.evaluation.test_quality import FAMILY, digits, drawing, images, untrained

__all__ = ["digits", "images"]  # fixtures

NEARLY = {
    "exact": lambda x, draw: x,
    "noisy": lambda x, draw: x + 0.03 * draw.normal(size=x.shape),
    "brighter": lambda x, draw: x + 0.05,
    "rounded": lambda x, draw: np.round((x + 1) * 127.5 / 3) * 3 / 127.5 - 1,
}


def planted(train, fresh, change, share=0.01):
    """Fresh images, of which a share (at least 5) became copies: samples [N, F] and which are
    copies [N].
    """
    draw = np.random.default_rng(1)
    count = max(5, int(share * len(fresh)))
    copies = change(train[draw.choice(len(train), count, replace=False)], draw).astype(np.float32)
    where = draw.choice(len(fresh), count, replace=False)
    samples, truth = fresh.copy(), np.zeros(len(fresh), bool)
    samples[where], truth[where] = copies, True
    return samples, truth


def halves(split, seed=0):
    """Two halves of a split at random, flat: one to calibrate on, one as what a perfect model
    draws.
    """
    x = split.batch(np.arange(len(split)))["image"].reshape(len(split), -1)
    x = x[np.random.default_rng(seed).permutation(len(x))]
    return x[: len(x) // 2], x[len(x) // 2 :]


@pytest.mark.parametrize("change", NEARLY)
def test_planted_copies_of_digits_are_found_and_fresh_images_are_not(digits, images, change):
    train = images["train"].reshape(1500, 64)
    held_out, fresh = halves(digits.splits["test"])
    samples, truth = planted(train, fresh, NEARLY[change])
    flags = find_copies(samples, train, held_out, 0.005)
    assert flags.shape == truth.shape and flags.dtype == bool
    assert flags[truth].mean() >= 0.95
    assert flags[~truth].mean() <= 0.01


def shares_found(name, train, held_out, fresh):
    """The share that is flagged of 1 % copies of each kind, and of fresh images; at most so
    many of each are used.
    """
    splits = TFDS(name).open().splits
    size = len(splits["train"])
    count = min(train, size)
    known = splits["train"].batch(np.arange(count) * size // count)["image"].reshape(count, -1)
    calibrating, new = halves(splits["test"])
    parts = {"fresh": new[:fresh]}
    for kind, change in NEARLY.items():
        samples, truth = planted(known, parts["fresh"], change)
        parts[kind] = samples[truth]
        assert len(parts[kind]) == len(parts["fresh"]) // 100
    flags = find_copies(np.concatenate(list(parts.values())), known, calibrating[:held_out], 0.005)
    ends = np.cumsum([len(part) for part in parts.values()])
    return {kind: part.mean() for kind, part in zip(parts, np.split(flags, ends[:-1]), strict=True)}


@pytest.mark.skipif("GENJAX_DATA" not in os.environ, reason="needs MNIST under GENJAX_DATA")
def test_planted_copies_of_mnist_are_found_and_fresh_images_are_not():
    shares = shares_found("mnist", 10_000, 2_000, 3_000)
    assert min(shares[kind] for kind in NEARLY) >= 0.95 and shares["fresh"] <= 0.01


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
@pytest.mark.skipif("GENJAX_DATA" not in os.environ, reason="needs image sets under GENJAX_DATA")
@pytest.mark.parametrize(
    "name", ["mnist", "fashion_mnist", pytest.param("cifar10_jpeg", marks=pytest.mark.slow)]
)
def test_planted_copies_among_all_training_images_are_found(name):
    shares = shares_found(name, 60_000, 5_000, 5_000)
    assert min(shares[kind] for kind in NEARLY) >= 0.95 and shares["fresh"] <= 0.01


@pytest.mark.parametrize("twins", ["each twice", "one 40 times", "each with a neighbour"])
@pytest.mark.parametrize("change", ["exact", "noisy"])
def test_duplicates_among_the_training_images_hide_no_copies(digits, images, twins, change):
    train = images["train"].reshape(1500, 64)
    held_out, fresh = halves(digits.splits["test"])
    samples, truth = planted(train, fresh, NEARLY[change])
    source = np.random.default_rng(1).choice(1500, 5, replace=False)  # as ``planted`` chose
    noise = 0.01 * np.random.default_rng(2).normal(size=train.shape).astype(np.float32)
    more = {
        "each twice": train,
        "one 40 times": train[source[:1].repeat(40)],
        "each with a neighbour": train + noise,
    }
    flags = find_copies(samples, np.concatenate([train, more[twins]]), held_out, 0.005)
    assert flags[truth].all() and flags[~truth].mean() <= 0.01


def test_held_out_images_that_are_training_images_are_expected_and_hide_no_copies(digits, images):
    train = images["train"].reshape(1500, 64)
    held_out, fresh = halves(digits.splits["test"])
    leaked = np.concatenate([held_out, train[:10]])  # 6 % of 158, far above the false alarms
    samples, truth = planted(train, fresh, NEARLY["noisy"])
    flags = find_copies(samples, train, leaked, 0.005)
    assert flags[truth].all() and flags[~truth].mean() <= 0.01
    line = find_threshold(find_near(leaked, train).ratio, 0.005)
    assert line.expected == 11 / 159


def test_a_held_out_split_that_was_trained_on_leaves_exact_copies_alone():
    draw = np.random.default_rng(0)
    train, fresh = (draw.normal(size=(n, 6)).astype(np.float32) for n in (50, 20))
    samples = np.concatenate([train[:5], fresh])
    np.testing.assert_array_equal(
        find_copies(samples, train, train[10:40], 0.005), np.arange(25) < 5
    )
    assert find_threshold(find_near(train, train).ratio, 0.005).expected == 50 / 51


@pytest.mark.parametrize(
    ("held_out", "false_alarms", "rank"), [(999, 0.005, 5), (399, 0.05, 20), (60, 0.005, 1)]
)
def test_as_many_new_images_are_flagged_as_is_promised(held_out, false_alarms, rank):
    draw = np.random.default_rng(0)
    trials, new = 1000, 4000
    shares, chances = [], []
    for _ in range(trials):
        line = find_threshold(draw.uniform(0.1, 1, held_out), false_alarms)
        flagged = int((draw.uniform(0.1, 1, new) < line.ratio).sum())
        shares.append(flagged / new)
        chances.append(line.compute_tail_probability(flagged, new))
    assert line.expected == rank / (held_out + 1)
    error = np.std(shares) / np.sqrt(trials)
    assert abs(np.mean(shares) - line.expected) < 4 * error
    # The remark is as rare as it says, which a binomial test, blind to the few held-out images,
    # would not be.
    assert np.mean(np.array(chances) < 0.05) < 0.075
    blind = binom.sf(new * np.array(shares) - 1.5, new, line.expected)
    assert np.mean(blind < 0.05) > 0.12


def test_near_equals_brute_force():
    draw = np.random.default_rng(0)
    train, queries = (draw.normal(size=(n, 4)).astype(np.float32) for n in (30, 12))
    all_distances = np.linalg.norm(queries[:, None] - train[None], axis=-1)
    ordered = np.sort(all_distances, axis=1)
    found = find_near(queries, train)
    np.testing.assert_array_equal(found.row, all_distances.argmin(1))
    np.testing.assert_allclose(found.distance, ordered[:, 0], rtol=1e-5)
    np.testing.assert_allclose(found.ratio, ordered[:, 0] / ordered[:, 4], rtol=1e-5)
    few = np.sort(all_distances[:, :3], axis=1)
    np.testing.assert_allclose(
        find_near(queries, train[:3]).ratio, few[:, 0] / few[:, 2], rtol=1e-5
    )


def test_authentic_is_farther_than_the_training_image_from_its_own_nearest():
    train = np.array([[0.0], [1], [10], [14]], np.float32)
    queries = np.array(
        [[0.5], [-2], [11], [20], [10]], np.float32
    )  # nearest: 0 or 1, 0, 10, 14, 10 itself
    assert are_authentic(find_near(queries, train), train).tolist() == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_distinct_rows_are_the_first_of_each():
    rows = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4]], np.float32)
    assert find_distinct(rows).tolist() == [0, 1, 3]


def test_a_copying_model_is_remarked_and_shown_beside_its_originals(digits, images):
    draw = np.random.default_rng(0)
    samples = np.concatenate([images["train"][100:160], images["test"][:90]])[draw.permutation(150)]
    evaluator = Memorisation(samples=150, shown=6)
    on = drawing(
        digits,
        samples,
        splits=dict(digits.splits) | {"test": digits.splits["test"].take(np.arange(90, 297))},
    )
    found = evaluator(on)
    assert set(found.numbers) == {
        "copies_pixels",
        "copies_expected_pixels",
        "authenticity_pixels",
        "authenticity_held_out_pixels",
    }
    assert 60 / 150 <= found.numbers["copies_pixels"] <= 62 / 150
    assert found.numbers["copies_expected_pixels"] == 1 / 208
    usual = found.numbers["authenticity_held_out_pixels"]
    assert 0.4 < usual < 0.9
    assert (
        abs(found.numbers["authenticity_pixels"] - 0.6 * usual) < 0.08
    )  # a copy is never authentic
    assert (
        "of 150 samples are closer to a training image than new ones usually are (pixels; "
        "expected: 0.48%)" in (found.remarks[0])
    )
    picture = found.pictures["suspicious_pixels"]
    assert picture.shape == (2 * (CELL + GAP) + GAP, 8 * (CELL + GAP) + GAP, 1)
    cells = [picture[GAP : GAP + CELL, GAP + i * (CELL + GAP) :][:, :CELL] for i in range(8)]
    for sample, original in zip(cells[::2], cells[1::2], strict=True):
        np.testing.assert_array_equal(sample, original)
    assert not np.array_equal(cells[0], cells[2])
    assert found.protocol.startswith("pixels, no resizing; 150 samples by PriorSampler(")
    assert "nearest of 1,500 training images; copies have ratios below" in found.protocol
    assert found.protocol.endswith("from 207 images of test")


def test_a_perfect_model_gets_no_remark(digits, images):
    held_out = digits.splits["test"].take(np.arange(90, 297))
    on = drawing(digits, images["test"][:90], splits=dict(digits.splits) | {"test": held_out})
    found = Memorisation(samples=90, false_alarms=0.01)(on)
    assert found.numbers["copies_pixels"] <= 0.02 and not found.remarks
    few = dataclasses.replace(
        on, splits=dict(digits.splits) | {"test": held_out.take(np.arange(30))}, made={}
    )
    (remark,) = Memorisation(samples=90)(few).remarks
    assert remark == "30 held-out images are too few to keep false alarms to 0.50%: expect 3.23%"


def test_copies_are_found_in_the_features_of_a_classifier(digits, images):
    samples = np.concatenate([images["train"][:50], images["test"][:50]])
    on = drawing(digits, samples, others={"runs/eyes": untrained(width=16)})
    found = Memorisation(features="runs/eyes", samples=100)(on)
    assert found.numbers["copies_eyes"] >= 0.5 and "run eyes" in found.protocol
    assert list(found.pictures) == ["suspicious_eyes"]


def test_what_cannot_be_judged_is_refused(digits):
    spec = Digits().open().spec
    with pytest.raises(UserError, match="Memorisation needs images, but the data are points"):
        Memorisation().check(FAMILY, Points(size=10, test_size=5).open().spec, {})
    with pytest.raises(
        UserError, match="Memorisation needs samples, but a classifier draws no samples"
    ):
        Memorisation().check(Classifier(MLPBackbone((4,))), spec, {})
    with pytest.raises(UserError, match="false_alarms must be above 0 and below 1"):
        Memorisation(false_alarms=0)
    with pytest.raises(UserError, match="samples must be at least 1"):
        Memorisation(samples=0)
    with pytest.raises(
        UserError, match="memorisation needs at least 2 different training images, got 1"
    ):
        find_copies(np.ones((3, 2)), np.ones((5, 2)), np.zeros((3, 2)), 0.005)
    on = dataclasses.replace(digits, split="train")
    assert not Memorisation()(on).numbers and "not trained on" in Memorisation()(on).remarks[0]
