"""Coverage of modes: exact on samples whose modes are known, and a collapse is called one."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.stats import chi2, entropy

from genjax import parallel
from genjax.data.codecs import ImageCodec, PointsCodec
from genjax.data.dataset import Spec
from genjax.data.sources import Digits, Points, Stacked
from genjax.errors import UserError
from genjax.evaluation.images.modes import (
    MixtureModes,
    StackedModes,
    expect_modes,
    find_nearest_centre,
    kl_to_uniform,
    make_remarks,
)
from genjax.evaluation.judge import Model
from genjax.families.classifier import Classifier
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.parallel import Devices
from tests import toy
from tests.evaluation.test_bias import RUN, Planted, eyes, painted
from tests.evaluation.test_judge import subject

GRID = tuple(map(tuple, Points("twenty_five_gaussians").modes()[0].tolist()))
FAMILY = VAE(2, MLPCoder((4,)))


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def points_subject(layout, points, codec=None):
    """A subject that draws ``points`` [N, D], in the units of the data."""
    codec = codec or PointsCodec(points.shape[1])
    model = Model(
        FAMILY, None, Spec("points", points.shape[1:], np.zeros(points.shape[1])), codec, "step 0"
    )
    return Planted(model, {}, "test", jax.random.key(0), layout, 16, drawn=codec.encode(points))


def mixture(shares, count=2500, std=0.05):
    """Points [N, 2] whose numbers a centre of the grid are ``shares`` [25] of ``count``."""
    draw = np.random.default_rng(0)
    mode = np.repeat(np.arange(25), np.rint(np.asarray(shares) * count).astype(int))
    return np.asarray(GRID)[mode] + std * draw.normal(size=(len(mode), 2))


@pytest.mark.parametrize("found", [1, 2, 5, 19, 20, 25])
def test_a_generator_of_some_modes_has_them_counted_and_the_kl_of_the_closed_form(layout, found):
    shares = np.zeros(25)
    shares[:found] = 1 / found
    std = 0.01  # so that all are good
    report = MixtureModes(GRID, 0.05)(points_subject(layout, mixture(shares, 25 * found * 4, std)))
    assert report.numbers["modes"] == found and report.numbers["good"] == 1
    np.testing.assert_allclose(report.numbers["reverse_kl"], np.log(25 / found), atol=1e-9)
    assert bool(report.remarks) == (found < 20)
    if found == 2:
        assert report.remarks[0].startswith(
            "mode collapse: 2 of 25 modes found; packed samples, minibatch standard"
        )


def test_the_data_themselves_are_good_as_the_gaussian_says(layout):
    data = Points("twenty_five_gaussians", test_size=20_000, standardise=True).open()
    drawn = data.splits["test"].batch(np.arange(20_000))["points"]
    on = dataclasses.replace(points_subject(layout, np.zeros((1, 2)), data.codec), drawn=drawn)
    assert np.abs(drawn).max() < 2  # in model space, far from the centres
    found = MixtureModes(GRID, 0.05, samples=20_000)(on)
    good = chi2.cdf(9, df=2)  # the squared distance in standard deviations, below 3^2
    assert abs(found.numbers["good"] - good) < 4 * np.sqrt(good * (1 - good) / 20_000)
    assert (
        found.numbers["modes"] == 25 and found.numbers["reverse_kl"] < 0.003 and not found.remarks
    )
    assert found.protocol.startswith(
        "of 25 modes; good within 3 standard deviations of 0.05, 20,000 samples by"
    )


def test_good_means_within_so_many_standard_deviations_of_the_nearest_centre(layout):
    centres = ((0.0, 0.0), (4.0, 0.0))
    points = np.array(
        [
            [0.29, 0],
            [0, -0.31],
            [3.8, 0.2],
            [4.2, -0.25],
            [2.1, 0],
            [4.0, 0.1],
            [np.nan, 0],
            [9e9, 0],
        ]
    )
    on = points_subject(layout, points)
    three = MixtureModes(centres, 0.1, samples=8)(on)
    assert three.numbers["good"] == 3 / 8 and three.numbers["modes"] == 2
    np.testing.assert_allclose(three.numbers["reverse_kl"], np.log(2) - entropy([1 / 3, 2 / 3]))
    assert MixtureModes(centres, 0.1, samples=8, within=4)(on).numbers["good"] == 5 / 8


def test_no_good_sample_is_no_mode_and_has_no_divergence(layout):
    found = MixtureModes(GRID, 0.05)(points_subject(layout, np.full((2500, 2), 1.0)))
    assert dict(found.numbers) == {"modes": 0, "good": 0.0} and found.remarks[0].startswith(
        "mode collapse: 0 of 25"
    )
    assert found.pictures["modes"].shape[-1] == 3


def test_points_in_space_are_counted_but_not_drawn(layout):
    centres = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found = MixtureModes(centres, 0.1, samples=2)(points_subject(layout, np.array(centres)))
    assert found.numbers["modes"] == 2 and not found.pictures


def test_a_family_that_draws_is_judged_in_the_units_of_the_data(layout):
    """Standard normals, which the codec scales by 10 and moves to (100, 0)."""
    on = subject(layout, toy.experiment(data=Points("two_moons", size=20, test_size=10)))
    codec = PointsCodec(2, (100.0, 0.0), (10.0, 10.0))
    on = dataclasses.replace(on, model=dataclasses.replace(on.model, codec=codec))
    found = MixtureModes(((100.0, 0.0),), 10.0, samples=4000)(on)
    assert (
        abs(found.numbers["good"] - chi2.cdf(9, df=2)) < 0.01 and found.numbers["reverse_kl"] == 0
    )


def test_the_nearest_centre_of_many_points_is_that_of_each():
    draw = np.random.default_rng(0)
    points, centres = draw.normal(size=(9000, 3)), draw.normal(size=(7, 3))
    mode, distance = find_nearest_centre(points, centres)
    for number in (0, 4095, 4096, 8999):
        each = np.linalg.norm(points[number] - centres, axis=1)
        assert mode[number] == each.argmin() and distance[number] == pytest.approx(each.min())


def test_the_divergence_to_the_uniform_has_its_closed_forms():
    assert kl_to_uniform(np.full(1000, 3)) == 0
    np.testing.assert_allclose(kl_to_uniform(np.eye(1000, dtype=int)[4] * 50), np.log(1000))
    counts = np.array([5, 0, 2, 9, 1])
    np.testing.assert_allclose(kl_to_uniform(counts), entropy(counts, np.full(5, 0.2)))


def test_as_many_modes_are_expected_as_even_draws_find():
    draw = np.random.default_rng(0)
    found = [len(np.unique(draw.integers(0, 1000, 1500))) for _ in range(300)]
    np.testing.assert_allclose(expect_modes(np.zeros(1000), 1500), np.mean(found), rtol=0.003)
    fair = np.bincount(draw.integers(0, 1000, 1000), minlength=1000)
    assert (fair > 0).sum() < 700 and not make_remarks(
        fair, 1000
    )  # chance misses a third, which is no collapse
    assert expect_modes(np.zeros(1), 5) == 1


def stacked(layout, digits, classes=10):
    """A subject that draws images [N, 4, 4, 3] of ``digits`` [N, 3]."""
    images = np.concatenate([painted(digits[:, c], classes) for c in range(3)], axis=-1)
    codec = ImageCodec(4, 4, 3)
    spec = Spec("image", (4, 4, 3), np.zeros((4, 4, 3)), classes=classes**3)
    model = Model(FAMILY, None, spec, codec, "step 0")
    return Planted(
        model, {}, "test", jax.random.key(0), layout, 16, {RUN: eyes(classes)}, drawn=images
    )


def digits_of(number, classes=10):
    return np.stack([number // classes**2, number // classes % classes, number % classes], axis=-1)


def test_each_of_a_thousand_modes_is_told_from_the_others(layout):
    found = StackedModes(RUN, samples=2000)(
        stacked(layout, digits_of(np.repeat(np.arange(1000), 2)))
    )
    assert found.numbers == {"modes": 1000, "mode_kl": 0.0} and not found.remarks
    assert found.pictures["modes"].shape[-1] == 3
    assert (
        f"of 1,000 modes, each channel's class by the classifier run {RUN}, step 0; 2,000 samples"
        in found.protocol
    )
    assert "a fair generator would find 865 modes with a KL of about 0.250" in found.protocol


def test_the_place_of_a_channel_counts_in_the_base_of_the_classes(layout):
    number = np.array([5, 5, 5, 7, 7, 26])  # 5 and 7 are 012 and 021 in base 3: the same digits
    on = stacked(layout, digits_of(np.resize(number, 60), 3), 3)
    found = StackedModes(RUN, samples=60)(on)
    assert found.numbers["modes"] == 3
    np.testing.assert_allclose(found.numbers["mode_kl"], np.log(27) - entropy([3, 2, 1]))


@pytest.mark.parametrize(("modes", "red"), [(50, True), (600, True), (900, False)])
def test_a_collapse_of_stacked_images_is_called_one(layout, modes, red):
    number = np.random.default_rng(0).integers(0, modes, 4000)
    found = StackedModes(RUN, samples=4000)(stacked(layout, digits_of(number)))
    assert abs(found.numbers["modes"] - modes) <= 20 and bool(found.remarks) == red
    np.testing.assert_allclose(found.numbers["mode_kl"], np.log(1000 / modes), atol=0.15)


def test_what_modes_cannot_judge_is_refused_before_the_first_step():
    points, images = Points(size=10, test_size=5).open().spec, Digits().open().spec
    stack = Stacked(Digits(), size=10, test_size=5).open().spec
    mixture, coverage, ten = MixtureModes(GRID, 0.05), StackedModes(RUN), {RUN: eyes(10)}
    no_samples = Classifier(MLPBackbone((4,)))
    mixture.check(FAMILY, points, {})
    coverage.check(FAMILY, stack, ten)
    StackedModes(RUN, samples=5).check(FAMILY, stack, {})  # the run is not loaded while training
    with pytest.raises(UserError, match="MixtureModes needs points, but the data are image"):
        mixture.check(FAMILY, images, {})
    with pytest.raises(UserError, match="centres must have 2 coordinates as the data, got 3"):
        MixtureModes(((0.0, 0.0, 0.0),), 0.1).check(FAMILY, points, {})
    with pytest.raises(
        UserError, match="StackedModes needs images with 3 channels, as Stacked makes"
    ):
        coverage.check(FAMILY, images, ten)
    with pytest.raises(UserError, match="StackedModes needs images, but the data are points"):
        coverage.check(FAMILY, points, ten)
    for evaluator, spec in ((mixture, points), (coverage, stack)):
        with pytest.raises(UserError, match="needs samples, but a classifier draws no samples"):
            evaluator.check(no_samples, spec, ten)
    with pytest.raises(
        UserError, match="has 9 classes, which make 729 modes, but the data have 1,000"
    ):
        coverage.check(FAMILY, stack, {RUN: eyes(9)})
    with pytest.raises(UserError, match="samples must be >= 1,000 .modes., got 999"):
        StackedModes(RUN, samples=999).check(FAMILY, stack, ten)
    with pytest.raises(UserError, match="StackedModes needs the run of an image classifier, but"):
        coverage.check(FAMILY, stack, {RUN: dataclasses.replace(eyes(10), family=FAMILY)})
    assert coverage.runs == (RUN,) and mixture.runs == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"centres": ()}, "one or more points"),
        ({"centres": ((0.0, 0.0), (1.0,))}, "same number of coordinates"),
        ({"std": 0.0}, "std must be above 0"),
        ({"within": float("nan")}, "within must be finite"),
        ({"samples": 24}, "samples must be >= 25 .modes., got 24"),
    ],
)
def test_wrong_fields_of_a_mixture_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        MixtureModes(**{"centres": GRID, "std": 0.05} | fields)


def test_stacked_modes_of_no_sample_are_refused():
    with pytest.raises(UserError, match="samples must be at least 1"):
        StackedModes(RUN, samples=0)
