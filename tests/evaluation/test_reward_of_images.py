"""The reward of images that are known, which labels go with them, and what is refused."""

import dataclasses
import math

import numpy as np
import pytest

from genjax import parallel
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.drawing import CHUNK
from genjax.evaluation.images.reward_of_images import RewardOfImages
from genjax.families.classifier import Classifier
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.image_rewards import mirror_symmetry, score_images
from genjax.parallel import Devices
from tests.evaluation.test_bias import planted

CLASSES = 3


def label_and_level(images, labels):
    """Twice the label, and the brightness of the first pixel."""
    assert images.dtype == np.float32 and images.min() >= -1 and images.max() <= 1
    return 2 * (np.zeros(len(images)) if labels is None else labels) + images[:, 0, 0, 0]


def subject(family):
    """Of samples that are lighter than white."""
    on = planted(
        parallel.start(Devices(count=1)), np.full((300, 4, 4, 1), 1.5, np.float32), {}, CLASSES
    )
    return dataclasses.replace(on, model=dataclasses.replace(on.model, family=family))


def test_the_mean_is_that_of_clipped_samples_and_of_the_labels_asked_for():
    count = CHUNK + 5  # the sampler's labels begin anew in each chunk
    found = RewardOfImages(label_and_level, "score", count)(subject(Diffusion(conditional=True)))
    asked = np.concatenate([np.arange(CHUNK) % CLASSES, np.arange(5) % CLASSES])
    rewards = 2 * asked + 1
    np.testing.assert_allclose(found.numbers["score"], rewards.mean())
    np.testing.assert_allclose(found.numbers["score_error"], rewards.std(ddof=1) / math.sqrt(count))
    assert "261 samples by Denoising(" in found.protocol
    one = Diffusion(conditional=True, sampler=Denoising(label=2))
    assert RewardOfImages(label_and_level, samples=9)(subject(one)).numbers == {
        "reward": 5.0,
        "reward_error": 0.0,
    }
    assert (
        RewardOfImages(label_and_level, samples=9)(subject(Diffusion())).numbers["reward"] == 1.0
    )  # no labels


def test_symmetry_is_1_of_a_mirror_image_and_0_of_its_opposite():
    left = np.linspace(-1, 1, 12).reshape(1, 3, 2, 2).astype(np.float32)
    same = np.concatenate([left, left[:, :, ::-1]], 2)
    opposite = np.concatenate([np.sign(left), -np.sign(left[:, :, ::-1])], 2)
    np.testing.assert_allclose(
        mirror_symmetry(np.concatenate([same, opposite]), None), [1, 0], atol=1e-6
    )
    # Of two pairs of columns one is of opposites.
    half = np.where(np.arange(4)[None, None, :, None] < 1, 1.0, -1.0) * np.ones((1, 3, 4, 1))
    np.testing.assert_allclose(mirror_symmetry(half, None), [0.5])


IMAGES, LABELS = np.zeros((4, 2, 2, 1), np.float32), np.array([7, 8, 9, 7])


def test_a_reward_is_a_finite_number_for_each():
    found = score_images(lambda images, labels: list(labels), IMAGES, LABELS)
    np.testing.assert_array_equal(found, LABELS)
    assert found.dtype == np.float32
    with pytest.raises(UserError, match="must be finite, got nan for sample 2 of label 9"):
        score_images(lambda images, labels: np.where(labels == 9, np.nan, 0.0), IMAGES, LABELS)
    with pytest.raises(UserError, match="the reward <lambda> must be finite, got inf for sample 0"):
        score_images(lambda images, labels: [np.inf] * len(images), IMAGES, None)
    with pytest.raises(UserError, match="failed on sample 1 of label 8: KeyError: 8"):
        score_images(
            lambda images, labels: [{7: 1}[int(label)] for label in labels], IMAGES, LABELS
        )
    with pytest.raises(UserError, match="failed: ValueError: fewer"):
        score_images(_all_or_none, IMAGES, LABELS)
    with pytest.raises(
        UserError,
        match=r"image, 4, got an array of shape \[3\]; the first image is sample 0 of label 7",
    ):
        score_images(lambda images, labels: [0.0] * 3, IMAGES, LABELS)


def _all_or_none(images, labels):
    if len(images) > 1:
        raise ValueError("fewer")
    return [0.0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="reward must be a function of images and labels, got 3"):
        RewardOfImages(3)
    with pytest.raises(UserError, match="samples must be at least 2"):
        RewardOfImages(mirror_symmetry, samples=1)
    evaluator, images = RewardOfImages(mirror_symmetry), Digits().open().spec
    evaluator.check(Diffusion(), images, {})
    with pytest.raises(UserError, match="needs images, but the data are points"):
        evaluator.check(Diffusion(), Points(size=10, test_size=5).open().spec, {})
    with pytest.raises(UserError, match="RewardOfImages needs samples, but"):
        evaluator.check(Classifier(), images, {})
