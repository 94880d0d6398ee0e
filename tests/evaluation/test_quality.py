"""Sample quality: closed forms for scaled data, nothing between the data and themselves, and
names that do not lie.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.features import drawn
from genjax.evaluation.features.features import FeatureSpace
from genjax.evaluation.images import diversity, quality
from genjax.evaluation.images.diversity import Diversity
from genjax.evaluation.images.quality import SampleQuality
from genjax.evaluation.judge import Model, Subject
from genjax.families.classifier import Classifier
from genjax.families.vae import VAE
from genjax.family import init_state
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.optim import Adam
from genjax.parallel import Devices
from tests import toy
from tests.evaluation.test_judge import subject

FAMILY = VAE(2, MLPCoder((4,)))
SMALL = SampleQuality(samples=297, kernel_subset=100)


@dataclass(frozen=True)
class Drawing(Subject):
    """Its samples are given: a model that draws what a test wants."""

    drawn: np.ndarray | None = None

    def draw_samples(self, n):
        assert len(self.drawn) >= n
        return self.drawn[:n]


def drawing(on, images, **changes):
    fields = {field.name: getattr(on, field.name) for field in dataclasses.fields(Subject)}
    return Drawing(**fields | {"made": {}} | changes, drawn=images)


def untrained(width=5, shape=(8, 8, 1)):
    """A classifier of images of one shape, at step 0."""
    family, key = Classifier(MLPBackbone((width,))), jax.random.key(0)
    spec = dataclasses.replace(Digits().open().spec, shape=shape, mean=np.zeros(shape, np.float32))
    example = {
        "image": jnp.zeros((1, *shape)),
        "mask": jnp.ones(1),
        "label": jnp.zeros(1, jnp.int32),
    }
    return Model(
        family,
        init_state(*family.init(key, example, spec), Adam().build(1), key),
        spec,
        None,
        "run eyes",
    )


@pytest.fixture(scope="module")
def digits():
    return subject(parallel.start(Devices(count=1)), toy.experiment(family=FAMILY, data=Digits()))


@pytest.fixture(scope="module")
def images(digits):
    """Training and held-out images, [1500, 8, 8, 1] and [297, 8, 8, 1]."""
    return {
        name: split.batch(np.arange(len(split)))["image"] for name, split in digits.splits.items()
    }


def test_the_data_are_at_no_distance_from_themselves_and_cover_themselves(digits, images):
    evaluator = SampleQuality(samples=1500, kernel_subset=300)
    found = evaluator(drawing(digits, images["train"])).numbers
    assert set(found) == {
        f"{name}_pixels"
        for name in (
            "frechet",
            "kernel",
            "kernel_error",
            "precision",
            "recall",
            "density",
            "coverage",
        )
    }
    assert found["frechet_pixels"] < 1e-9
    # Draws from one set share rows, whose kernel with themselves is missing from the unbiased terms
    # alone.
    x = images["train"].reshape(1500, 64)
    kernel = (x @ x.T / 64 + 1) ** 3
    shared = np.diag(kernel).mean() - (kernel.sum() - np.trace(kernel)) / (1500 * 1499)
    assert abs(found["kernel_pixels"] + 2 * shared / 1500) < 4 * found["kernel_error_pixels"] < 0.01
    assert found["precision_pixels"] == found["recall_pixels"] == found["coverage_pixels"] == 1
    assert 1 <= found["density_pixels"] < 1.5  # each has k neighbours' balls, and its own


def test_the_frechet_distance_of_scaled_images_has_a_closed_form(digits, images):
    train = images["train"].reshape(1500, 64).astype(np.float64)
    found = SampleQuality(samples=1500, kernel_subset=100)(
        drawing(digits, 0.5 * images["train"])
    ).numbers["frechet_pixels"]
    squares = np.square(train.mean(0)).sum() + train.var(0, ddof=1).sum()
    np.testing.assert_allclose(found, 0.25 * squares, rtol=1e-5)  # (1 - a)^2 E|x|^2


def test_held_out_images_are_better_than_noisy_shifted_or_few_ones(digits, images):
    held_out = images["test"]
    noise = np.random.default_rng(0).normal(size=held_out.shape).astype(np.float32)
    models = {
        "fresh": held_out,
        "shifted": 0.8 * held_out + 0.2,
        "noisy": held_out + 0.8 * noise,
        "few": np.repeat(held_out[:9], 33, axis=0),
    }
    found = {name: SMALL(drawing(digits, x)).numbers for name, x in models.items()}
    for worse in ("shifted", "noisy", "few"):
        assert found[worse]["frechet_pixels"] > 2 * found["fresh"]["frechet_pixels"]
        margin = 5 * (found[worse]["kernel_error_pixels"] + found["fresh"]["kernel_error_pixels"])
        assert found[worse]["kernel_pixels"] > found["fresh"]["kernel_pixels"] + margin
        assert found[worse]["coverage_pixels"] < found["fresh"]["coverage_pixels"]
    assert found["noisy"]["precision_pixels"] < 0.5 < 0.9 < found["fresh"]["precision_pixels"]
    assert found["few"]["recall_pixels"] < 0.1 < 0.8 < found["fresh"]["recall_pixels"]
    assert found["few"]["precision_pixels"] > 0.8


def test_samples_are_clipped_as_a_picture_of_them_is(digits, images):
    beyond = np.where(images["test"] == 1, 3, images["test"])
    clipped, plain = (SMALL(drawing(digits, x)).numbers for x in (beyond, images["test"]))
    assert clipped == plain


def test_the_protocol_says_all_that_the_numbers_depend_on(digits, images):
    found = SampleQuality(samples=297, limit=1000, k=3, manifold=200, kernel_subset=100)(
        drawing(digits, images["test"])
    )
    assert found.protocol.startswith("pixels, no resizing; 297 samples by PriorSampler(")
    assert found.protocol.endswith(
        "clipped to [-1, 1]; 1,000 images of train; kernel (x.y / 64 + 1)^3, 100 subsets of 100; "
        "manifolds of 200 each, k 3"
    )
    held_out = SampleQuality(samples=297, reference="test", kernel_subset=100)(
        drawing(digits, images["test"])
    )
    assert "297 images of test" in held_out.protocol and held_out.numbers["frechet_pixels"] < 1e-9


def test_only_distances_in_the_features_of_inception_are_called_fid_and_kid(
    digits, images, monkeypatch
):
    space = FeatureSpace("Inception", lambda x: x.reshape(len(x), -1)[:, :8])
    run = "runs/inception"  # a classifier's run may have any name
    on = drawing(digits, images["test"], others={run: untrained()})
    names = {"frechet_inception", "kernel_inception", "kernel_error_inception"}
    found = dataclasses.replace(SMALL, features=run)(on)
    assert names <= set(found.numbers) and not {"fid", "kid"} & set(found.numbers)
    assert "run eyes" in found.protocol
    for module in (quality, drawn):
        monkeypatch.setattr(module, "feature_space", lambda subject, features: space)
    for features in ("inception", "inception:weights.npz"):
        found = dataclasses.replace(SMALL, features=features)(on)
        shares = {f"{name}_inception" for name in ("precision", "recall", "density", "coverage")}
        assert set(found.numbers) == {"fid", "kid", "kid_error"} | shares


def test_features_of_the_data_are_extracted_once_for_all_evaluators(digits, images, monkeypatch):
    calls = []
    space = FeatureSpace(
        "counted", lambda x: calls.append(len(x)) or x.reshape(len(x), -1), chunk=300
    )
    for module in (quality, drawn, diversity):
        monkeypatch.setattr(module, "feature_space", lambda subject, features: space)
    on = drawing(digits, images["test"])
    SMALL(on)
    Diversity(samples=297)(on)
    assert len(calls) == 5 + 1  # 1500 training images and 297 samples


def test_blocks_of_the_data_are_joined_in_order(digits, images, monkeypatch):
    monkeypatch.setattr(drawn, "BLOCK", 64)
    seen = []
    found = drawn.map_images(
        lambda x: seen.append(len(x)) or x.sum((1, 2, 3)), digits.select_part(500, "train")
    )
    np.testing.assert_array_equal(found, images["train"][::3].sum((1, 2, 3)))
    assert max(seen) <= 64 and sum(seen) == 500


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"samples": 900},
            "needs at least kernel_subset = 1,000 images, and more than k = 5, but samples of 900",
        ),
        ({"limit": 900}, "but limit of 900"),
        ({"samples": 50, "kernel_subset": 50, "k": 50}, "more than k = 50, but samples of 50"),
        ({"manifold": 5}, "k must be < manifold .5., got 5"),
        ({"k": 0}, "k must be at least 1"),
        ({"kernel_subset": 1}, "kernel_subset must be at least 2"),
    ],
)
def test_too_few_images_are_refused_where_the_config_is_made(fields, message):
    with pytest.raises(UserError, match=message):
        SampleQuality(**fields)


def test_a_singular_covariance_is_refused_before_the_first_step():
    spec = Digits().open().spec
    SampleQuality(samples=65, kernel_subset=60).check(FAMILY, spec, {})
    with pytest.raises(
        UserError, match=r"64 features \(pixels\) of 64 images is singular; take at least 65"
    ):
        SampleQuality(samples=64, kernel_subset=60).check(FAMILY, spec, {})
    many = {"eyes": untrained(width=100)}
    with pytest.raises(UserError, match=r"100 features \(eyes\) of 80 images is singular"):
        SampleQuality(features="eyes", samples=80, kernel_subset=60).check(FAMILY, spec, many)


def test_a_reference_that_is_too_small_or_missing_is_refused(digits, images):
    on = drawing(digits, images["test"])
    with pytest.raises(
        UserError,
        match="kernel_subset = 297 images, and more than k = 5, but the test split has 100",
    ):
        splits = {"test": digits.splits["test"].take(np.arange(100))}
        SampleQuality(samples=297, kernel_subset=297, reference="test")(
            dataclasses.replace(on, splits=splits)
        )
    with pytest.raises(UserError, match="64 images is singular"):
        splits = {"test": digits.splits["test"].take(np.arange(64))}
        SampleQuality(samples=297, kernel_subset=50, reference="test")(
            dataclasses.replace(on, splits=splits)
        )
    with pytest.raises(UserError, match="unknown split 'tran'; did you mean 'train'"):
        dataclasses.replace(SMALL, reference="tran")(on)


@pytest.mark.parametrize("evaluator", [SampleQuality(), Diversity()])
def test_what_has_no_samples_or_no_images_is_refused(evaluator):
    name = type(evaluator).__name__
    with pytest.raises(UserError, match=f"{name} needs images, but the data are points"):
        evaluator.check(FAMILY, Points(size=10, test_size=5).open().spec, {})
    with pytest.raises(UserError, match=f"{name} needs samples, but a classifier draws no samples"):
        evaluator.check(Classifier(MLPBackbone((4,))), Digits().open().spec, {})


def test_a_run_of_features_is_asked_for():
    assert SampleQuality(features="runs/eyes").runs == ("runs/eyes",)
    assert SampleQuality().runs == SampleQuality(features="inception").runs == ()
