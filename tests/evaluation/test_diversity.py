"""Diversity: ratios that are known, collapse, and what a classifier's probabilities say of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.errors import UserError
from genjax.evaluation.features.features import resize_images
from genjax.evaluation.features.predictions import class_probabilities
from genjax.evaluation.images.diversity import Diversity, class_entropy
from genjax.families import classifier
from tests.evaluation.test_quality import digits, drawing, images, untrained

__all__ = ["digits", "images"]  # fixtures


def test_scaled_data_are_that_much_less_diverse(digits, images):
    for scale in (1.0, 0.75):
        found = Diversity(samples=1500)(drawing(digits, np.float32(scale) * images["train"]))
        np.testing.assert_allclose(found.numbers["diversity_pixels"], scale, rtol=1e-6)
        np.testing.assert_allclose(
            found.numbers["pairwise_pixels"],
            scale * found.numbers["pairwise_data_pixels"],
            rtol=1e-6,
        )
        assert set(found.numbers) == {"pairwise_pixels", "pairwise_data_pixels", "diversity_pixels"}
        assert not found.remarks


def test_the_distance_is_the_mean_over_all_pairs_where_they_are_few(digits, images):
    x = images["test"][:20].reshape(20, 64)
    expected = np.linalg.norm(x[:, None] - x[None], axis=-1).sum() / (20 * 19)
    found = Diversity(samples=20)(drawing(digits, images["test"]))
    np.testing.assert_allclose(found.numbers["pairwise_pixels"], expected, rtol=1e-5)


def test_collapse_is_remarked(digits, images):
    one = Diversity(samples=100)(drawing(digits, np.repeat(images["train"][:1], 100, axis=0)))
    assert one.numbers["diversity_pixels"] == 0
    (remark,) = one.remarks
    assert remark.startswith(
        "samples are 0.00 times as far apart as images of train (pixels): the model may have coll"
    )
    assert not Diversity(samples=297)(drawing(digits, images["test"])).remarks


def test_the_entropy_of_classes_is_that_of_their_mean_probabilities():
    alike = np.full((7, 10), 0.1)
    np.testing.assert_allclose(class_entropy(alike), np.log(10))
    np.testing.assert_allclose(
        class_entropy(np.eye(4)[[0, 0, 1, 1]]), np.log(2)
    )  # sure of each, two classes
    assert class_entropy(np.eye(4)[[2, 2]]) == 0


def test_a_run_of_a_classifier_tells_of_classes_that_are_missing(digits, images):
    eyes = untrained(width=16)
    head = jax.tree.map(lambda p: 1000 * p, eyes.state.params["head"])  # surer of its classes
    eyes = dataclasses.replace(
        eyes, state=eyes.state.replace(params=dict(eyes.state.params) | {"head": head})
    )
    others = {"runs/eyes": eyes}
    evaluator = Diversity(features="runs/eyes", samples=100, limit=500)
    probabilities = class_probabilities(
        drawing(digits, None, others=others), "runs/eyes", images["train"][::3]
    )
    whole, few = (
        evaluator(drawing(digits, x, others=others)).numbers
        for x in (images["test"], np.repeat(images["test"][:1], 100, axis=0))
    )
    for found in (whole, few):
        np.testing.assert_allclose(
            found["class_entropy_data_eyes"], class_entropy(probabilities), rtol=1e-5
        )
    assert few["class_entropy_eyes"] < 0.1 < 1 < whole["class_entropy_eyes"]  # it sees one class
    assert abs(whole["class_entropy_eyes"] - whole["class_entropy_data_eyes"]) < 0.2
    assert whole["diversity_eyes"] > few["diversity_eyes"]


def test_class_probabilities_are_those_of_the_classifier(digits, images):
    eyes = untrained()
    found = class_probabilities(
        drawing(digits, None, others={"eyes": eyes}), "eyes", images["test"]
    )
    logits = classifier.predict(eyes.family, eyes.state, {"image": jnp.asarray(images["test"])})
    np.testing.assert_allclose(found, np.exp(logits), rtol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert found.shape == (297, 10)


def test_images_are_brought_to_the_size_and_the_colours_of_the_classifier(digits, images):
    wide = untrained(shape=(16, 16, 3))
    found = class_probabilities(
        drawing(digits, None, others={"wide": wide}), "wide", images["test"][:5]
    )
    resized = jax.image.resize(images["test"][:5], (5, 16, 16, 1), "bilinear").repeat(3, -1)
    logits = classifier.predict(wide.family, wide.state, {"image": resized})
    np.testing.assert_allclose(found, np.exp(logits), rtol=1e-4)


def test_fitted_images_keep_constants_and_the_luma():
    grey = np.asarray(resize_images(jnp.full((2, 8, 8, 1), 0.3), (4, 6, 3)))
    np.testing.assert_allclose(grey, np.full((2, 4, 6, 3), 0.3), rtol=1e-6)
    colour = jnp.broadcast_to(jnp.array([1.0, 0.5, -1.0]), (2, 4, 4, 3))
    np.testing.assert_allclose(
        resize_images(colour, (4, 4, 1)), np.full((2, 4, 4, 1), 0.299 + 0.2935 - 0.114), rtol=1e-5
    )
    same = jnp.ones((1, 4, 4, 3))
    assert resize_images(same, (4, 4, 3)) is same


def test_predictions_of_another_run_than_a_classifier_are_refused(digits, images):
    on = drawing(digits, None, others={"other": digits.model})
    with pytest.raises(UserError, match="from an image classifier, but other"):
        class_probabilities(on, "other", images["test"])


def test_the_protocol_names_space_samples_and_reference(digits, images):
    found = Diversity(samples=100, reference="test", pairs=50)(drawing(digits, images["test"]))
    assert found.protocol.startswith("pixels, no resizing; 100 samples by PriorSampler(")
    assert found.protocol.endswith(
        "clipped to [-1, 1]; 297 images of test; at most 50 pairs of each"
    )


@pytest.mark.parametrize("fields", [{"samples": 1}, {"limit": 1}, {"pairs": 0}])
def test_less_than_a_pair_is_refused(fields):
    with pytest.raises(UserError, match=f"^{next(iter(fields))} must be"):
        Diversity(**fields)
