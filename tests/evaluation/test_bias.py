"""Shares of labels: intervals against references, false flags over many draws, and a skew
planted on purpose.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest

import genjax
from genjax import parallel
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Spec
from genjax.data.sources import Digits, Points
from genjax.data.splits import Arrays
from genjax.errors import UserError
from genjax.evaluation.images.bias import (
    Bias,
    compare,
    fair_distance,
    fewest,
    make_remarks,
    quantile,
    wilson,
)
from genjax.evaluation.images.sheet import Sheet
from genjax.evaluation.judge import Model, Subject
from genjax.experiment import Every, Experiment
from genjax.families.classifier import Classifier
from genjax.families.vae import VAE
from genjax.family import State
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.parallel import Devices

RUN = "runs/eyes"


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


class Brightness(nn.Module):
    """One feature a class: 1 for the class that the brightness of the image stands for."""

    classes: int

    @nn.compact
    def __call__(self, x, mask=None, *, train=False):
        level = jnp.rint((x.mean((1, 2, 3)) + 1) / 2 * (self.classes - 1))
        return jax.nn.one_hot(level.astype(jnp.int32), self.classes)


@dataclass(frozen=True)
class Levels:
    """Makes a ``Brightness``."""

    classes: int

    def backbone(self, axis=None):
        return Brightness(self.classes)


def eyes(classes, taken_for=None):
    """A classifier that takes an image of label ``c`` for ``taken_for[c]``, surely."""
    head = (
        50.0
        * np.eye(classes, dtype=np.float32)[np.arange(classes) if taken_for is None else taken_for]
    )
    params = {"head": {"kernel": jnp.asarray(head), "bias": jnp.zeros(classes)}}
    shape = (4, 4, 1)
    variables = {"mean": jnp.zeros(shape), "batch_stats": {}}
    state = State(jnp.zeros((), jnp.int32), params, None, variables, None, jax.random.key(0))
    spec = Spec("image", shape, np.zeros(shape, np.float32), classes=classes)
    return Model(Classifier(Levels(classes)), state, spec, ImageCodec(*shape), f"run {RUN}, step 0")


def painted(label, classes):
    """Images [N, 4, 4, 1] in model space whose brightness stands for ``label`` [N]."""
    value = 2 * np.asarray(label, np.float32) / (classes - 1) - 1
    return np.broadcast_to(value[:, None, None, None], (len(value), 4, 4, 1)).copy()


@dataclass(frozen=True)
class Planted(Subject):
    """Its samples are known beforehand."""

    drawn: Any = None

    def draw_samples(self, n):
        return self.drawn[:n]


def planted(layout, drawn, labels, classes, others=None):
    """A subject of samples [N, H, W, C], and splits of images of ``labels`` by split."""
    codec = ImageCodec(4, 4, 1, levels=classes)  # so that the raw pixel is the label
    splits = {}
    for name, label in labels.items():
        raw = np.broadcast_to(label[:, None, None, None], (len(label), 4, 4, 1)).astype(np.uint8)
        splits[name] = Arrays("image", raw, label, codec)
    spec = Spec("image", (4, 4, 1), np.zeros((4, 4, 1), np.float32), classes=classes)
    family = VAE(2, MLPCoder((4,)))
    model = Model(family, None, spec, codec, "step 0")
    others = {RUN: eyes(classes)} if others is None else others
    return Planted(model, splits, "test", jax.random.key(0), layout, 16, others, drawn=drawn)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
@pytest.mark.parametrize(("count", "total"), [(0, 20), (3, 20), (200, 2000), (2000, 2000)])
def test_wilson_intervals_equal_those_of_scipy(count, total, confidence):
    share, low, high = wilson(np.array([count]), total, quantile(confidence, 2))
    expected = binomtest(count, total).proportion_ci(confidence, method="wilson")
    np.testing.assert_allclose(
        [share[0], low[0], high[0]], [count / total, expected.low, expected.high], atol=1e-12
    )


def test_differences_have_newcombes_published_intervals():
    """56 of 70 against 48 of 80, and 9 of 10 against 3 of 10, at 95 %."""
    for first, second, least, most in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
    ):
        counts, of_data = (np.array([hits, total - hits]) for hits, total in (first, second))
        found = compare(counts, of_data, 0.95)
        np.testing.assert_allclose([found.least[0], found.most[0]], [least, most], atol=5e-5)
        np.testing.assert_allclose(
            [found.least[1], found.most[1]], [-most, -least], atol=5e-5
        )  # the same fact
        assert found.flagged.all()


def test_known_shares_of_the_data_leave_wilsons_interval_alone():
    found = compare(np.array([30, 50, 20]), np.array([4, 3, 3]), 0.95, exact=True)
    _, low, high = wilson(np.array([30, 50, 20]), 100, quantile(0.95, 3))
    np.testing.assert_allclose(found.least, low - [0.4, 0.3, 0.3])
    np.testing.assert_allclose(found.most, high - [0.4, 0.3, 0.3])
    np.testing.assert_array_equal(found.data_low, found.data_high)
    assert list(found.flagged) == [False, True, False]


def test_the_distance_is_total_variation():
    found = compare(np.array([50, 30, 20]), np.array([200, 500, 300]), 0.95)
    np.testing.assert_allclose(found.distance, 0.3)
    assert compare(np.array([5, 0]), np.array([0, 7]), 0.95).distance == 1
    assert compare(np.array([5, 0]), np.array([50, 0]), 0.95).distance == 0


SKEWED = np.array([0.02, 0.04, 0.04, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3])


@pytest.mark.parametrize("shares", [np.full(10, 0.1), SKEWED, np.full(2, 0.5), np.full(40, 0.025)])
@pytest.mark.parametrize("held_out", [None, 1000, 10_000])
def test_a_fair_generator_is_flagged_no_oftener_than_the_confidence_says(shares, held_out):
    draw = np.random.default_rng(0)
    data = [
        10**4 * shares if held_out is None else draw.multinomial(held_out, shares)
        for _ in range(1000)
    ]
    flags = [
        compare(draw.multinomial(2000, shares), of_data, 0.95, held_out is None).flagged
        for of_data in data
    ]
    # 5 %, plus three standard deviations of a rate over 1,000 trials
    assert 0.01 < np.any(flags, axis=1).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_five_points_too_few_are_flagged_and_named():
    draw = np.random.default_rng(0)
    skew = np.full(10, 0.1 + 0.05 / 9)
    skew[3] = 0.05
    found = [
        compare(draw.multinomial(2000, skew), draw.multinomial(10_000, np.full(10, 0.1)), 0.95)
        for _ in range(300)
    ]
    assert np.mean([f.flagged[3] and f.most[3] < 0 for f in found]) > 0.99
    assert "label 3 is under-represented" in make_remarks(found[0])[0]


def test_a_bias_of_about_what_chance_gives_is_foretold():
    draw = np.random.default_rng(0)
    for held_out in (500, None):
        of_data = [
            draw.multinomial(held_out or 1, SKEWED) if held_out else 1000 * SKEWED
            for _ in range(500)
        ]
        distances = [
            compare(draw.multinomial(1000, SKEWED), d, 0.95, held_out is None).distance
            for d in of_data
        ]
        np.testing.assert_allclose(
            fair_distance(SKEWED, 1000, held_out), np.mean(distances), rtol=0.05
        )


def test_remarks_name_the_labels_farthest_off_and_count_the_others():
    def shares(counts, of_data):
        return compare(np.array(counts), np.array(of_data), 0.95)

    assert make_remarks(shares([41, 959], [1020, 8980])) == (
        "label 0 is under-represented: 4.1% of samples, 10.2% of data",
        "label 1 is over-represented: 95.9% of samples, 89.8% of data",
    )
    many = make_remarks(shares([500, 400, 300, 0, 100, 0, 200, 0], [1000] * 8))
    assert len(many) == 6 and many[0].startswith(
        "label 0 is over-represented: 33.3% of samples, 12.5%"
    )
    assert many[-1] == "2 more of 8 labels are over- or under-represented"
    assert make_remarks(shares([100, 100], [1000, 1000])) == ()


def evenly(count, classes=10):
    return np.arange(count) * classes // count


def test_a_skewed_generator_is_told_from_a_fair_one_through_the_classifier(layout):
    labels = {"train": evenly(1000), "test": evenly(1000)}
    fair = Bias(RUN)(planted(layout, painted(evenly(2000), 10), labels, 10))
    assert fair.numbers["bias"] == 0 and fair.numbers["flagged"] == 0 and not fair.remarks
    np.testing.assert_allclose([fair.numbers[f"share_{label}"] for label in range(10)], 0.1)
    drawn = evenly(2000)
    drawn[drawn == 3] = np.where(np.arange(200) < 100, 3, 7)
    skewed = Bias(RUN)(planted(layout, painted(drawn, 10), labels, 10))
    np.testing.assert_allclose(skewed.numbers["bias"], 0.05)
    assert (skewed.numbers["share_3"], skewed.numbers["share_7"]) == (
        0.05,
        0.15,
    ) and skewed.numbers["flagged"] == 2
    assert skewed.remarks == (
        "label 3 is under-represented: 5.0% of samples, 10.0% of data",
        "label 7 is over-represented: 15.0% of samples, 10.0% of data",
    )
    assert (
        f"labels by the classifier run {RUN}, step 0; 2,000 samples by PriorSampler("
        in skewed.protocol
    )
    assert "1,000 images of test by the same classifier" in skewed.protocol
    assert skewed.pictures["shares"].shape[-1] == 3


def test_errors_of_the_classifier_do_not_count_as_bias(layout):
    labels = {"train": evenly(1000), "test": evenly(1000)}
    blind = {RUN: eyes(10, taken_for=[0, 1, 2, 3, 9, 5, 6, 7, 8, 9])}  # takes 4s for 9s
    on = planted(layout, painted(evenly(2000), 10), labels, 10, blind)
    found = Bias(RUN)(on)
    assert found.numbers["bias"] == found.numbers["flagged"] == 0
    np.testing.assert_allclose([found.numbers["share_4"], found.numbers["share_9"]], [0, 0.2])
    against_labels = Bias(RUN, of_data="labels")(on)
    np.testing.assert_allclose(against_labels.numbers["bias"], 0.1)
    assert against_labels.numbers[
        "flagged"
    ] == 2 and "the true labels of 1,000 training images" in (against_labels.protocol)


def test_labels_are_those_of_the_training_split_whole(layout):
    labels = {"train": np.repeat(np.arange(4), [700, 100, 100, 100]), "test": evenly(400, 4)}
    drawn = painted(np.repeat(np.arange(4), [1400, 200, 200, 200]), 4)
    on = planted(layout, drawn, labels, 4)
    assert Bias(RUN, of_data="labels")(on).numbers["bias"] == 0
    np.testing.assert_allclose(Bias(RUN)(on).numbers["bias"], 0.45)
    assert Bias(RUN, of_data="labels")(dataclasses.replace(on, split="train")).numbers["bias"] == 0
    trained_on = Bias(RUN)(dataclasses.replace(on, split="train"))
    assert not trained_on.numbers and "not trained on" in trained_on.remarks[0]


def test_few_held_out_images_are_remarked(layout):
    labels = {"train": evenly(100), "test": evenly(60)}
    found = Bias(RUN)(planted(layout, painted(evenly(2000), 10), labels, 10))
    assert found.remarks == ("bias: 60 images are few for 10 labels: intervals are rough",)


def test_more_than_a_hundred_labels_have_no_number_each(layout):
    labels = {"train": evenly(300, 101), "test": evenly(3000, 101)}
    found = Bias(RUN, samples=2020)(planted(layout, painted(evenly(2020, 101), 101), labels, 101))
    assert set(found.numbers) == {"bias", "flagged"}


def test_the_fewest_samples_are_those_that_show_a_missing_label():
    for classes in (2, 10, 100):
        least = fewest(0.95, classes)
        high = [
            wilson(np.array([0]), total, quantile(0.95, classes))[2][0]
            for total in (least - 1, least)
        ]
        assert high[0] > 1 / classes - 1e-9 and high[1] <= 1 / classes + 1e-9


def test_what_bias_cannot_judge_is_refused_before_the_first_step():
    family, images, points = (
        VAE(2, MLPCoder((4,))),
        Digits().open().spec,
        Points(size=10, test_size=5).open().spec,
    )
    ten = {RUN: eyes(10)}
    Bias(RUN).check(family, images, ten)
    Bias(RUN, samples=3).check(family, images, {})  # the run is not loaded while training
    with pytest.raises(UserError, match="Bias needs images, but the data are points"):
        Bias(RUN).check(family, points, ten)
    with pytest.raises(UserError, match="Bias needs samples, but a classifier draws no samples"):
        Bias(RUN).check(Classifier(MLPBackbone((4,))), images, ten)
    with pytest.raises(UserError, match="image classifier, but runs/eyes is none"):
        Bias(RUN).check(family, images, {RUN: dataclasses.replace(eyes(10), family=family)})
    with pytest.raises(UserError, match="at least 2 classes, but runs/eyes has 1"):
        Bias(RUN).check(family, images, {RUN: eyes(1)})
    with pytest.raises(
        UserError, match="samples must be >= 71 to detect that a label of 10 is missing, got 70"
    ):
        Bias(RUN, samples=70).check(family, images, ten)
    with pytest.raises(UserError, match="of_data='labels' needs labels, but the data have none"):
        Bias(RUN, of_data="labels").check(family, dataclasses.replace(images, classes=None), {})
    with pytest.raises(UserError, match="has 2 classes but the data have 10 labels"):
        Bias(RUN, of_data="labels").check(family, images, {RUN: eyes(2)})
    for wrong in (
        {"samples": 0},
        {"limit": 0},
        {"confidence": 1.0},
        {"confidence": 0.0},
        {"of_data": "lables"},
    ):
        with pytest.raises(UserError, match="Bias"):
            Bias(RUN, **wrong)
    assert Bias(RUN).runs == (RUN,)


@pytest.mark.long
def test_a_run_is_judged_by_a_classifier_run(tmp_path):
    every = Every(log=10, evaluate=0, sample=0, checkpoint=0)
    common = {"data": Digits(), "every": every, "devices": Devices(count=1)}
    run = str(tmp_path / "eyes")
    genjax.train(
        Experiment(family=Classifier(MLPBackbone((12,))), steps=20, **common), run, quiet=True
    )
    evaluators = (Bias(run, samples=200), Sheet(samples=200, classifier=run, rows=2, shown=4))
    judged = Experiment(family=VAE(2, MLPCoder((4,))), steps=2, evaluators=evaluators, **common)
    report = genjax.train(judged, tmp_path / "run", quiet=True).evaluate()
    shares = [report.numbers[f"share_{label}"] for label in range(10)]
    np.testing.assert_allclose(sum(shares), 1)
    assert (
        report.numbers["flagged"] > 0 and 0 < report.numbers["bias"] <= 1
    )  # an untrained model draws one blur
    assert (
        "200 samples by" in report.protocols["bias"]
        and "297 images of test" in report.protocols["bias"]
    )
    assert {"shares", "report"} <= report.pictures.keys()


def test_shares_of_one_label_alone_are_no_error():
    found = compare(np.array([50, 0]), np.array([90, 10]), 0.95)
    assert found.high[0] == 1 and found.low[1] == 0 and found.flagged.all()
