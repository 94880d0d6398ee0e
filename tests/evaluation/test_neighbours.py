"""Neighbours and generalisation: exact on planted copies and on losses that are known."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

import genjax
from genjax import parallel
from genjax.data.pictures import CELL, GAP
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.features.features import FeatureSpace, feature_space, find_nearest
from genjax.evaluation.images.neighbours import NearestNeighbours
from genjax.evaluation.judge import Subject
from genjax.evaluation.likelihood.generalisation import GeneralisationGap
from genjax.experiment import Every, Experiment
from genjax.families.classifier import Classifier
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.parallel import Devices
from genjax.runs.run import load_models
from tests import toy
from tests.evaluation.test_judge import Counting, subject


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def test_nearest_equals_scikit_learn():
    draw = np.random.default_rng(0)
    points, queries = (
        draw.normal(size=(n, 7)).astype(np.float32) + 50 for n in (300, 40)
    )  # far from the origin
    distance, index = find_nearest(queries, points, 5, chunk=16)
    expected_distance, expected = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(queries)
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-3)
    assert (index == expected).mean() > 0.98


@dataclass(frozen=True)
class Copier(VAE):
    """Its samples are training images, planted: a model that has learned by heart."""

    noise: float = 0.0

    def sample(self, state, key, n, options):
        return state.variables["planted"][:n] + self.noise


def planted(layout, images, **changes):
    on = subject(layout, toy.experiment(family=VAE(2, MLPCoder((4,))), data=Digits()))
    state = on.model.state
    state = state.replace(variables=state.variables | {"planted": images})
    model = dataclasses.replace(on.model, family=Copier(2, MLPCoder((4,)), **changes), state=state)
    return dataclasses.replace(on, model=model)


def test_copies_are_found_at_distance_zero_and_shown_beside_their_originals(layout):
    train = Digits().open().splits["train"].batch(np.arange(100))["image"]
    on = planted(layout, train[20:52])
    found = NearestNeighbours(samples=32, shown=3, neighbours=4)(on)
    assert found.numbers["neighbour_distance"] == 0 and found.numbers["neighbour_ratio"] == 0
    picture = found.pictures["neighbours"]
    top = [GAP + i * (CELL + GAP) for i in range(5)]
    cells = [[picture[a : a + CELL, b : b + CELL] for b in top] for a in top[:3]]
    for row in range(3):
        np.testing.assert_array_equal(cells[row][0], cells[row][1])
        assert not np.array_equal(cells[row][1], cells[row][2])
    assert "pixels, no resizing; 32 samples by PriorSampler(" in found.protocol
    assert "32 images of test, nearest of 1,500 training images" in found.protocol


def test_fresh_images_are_as_far_as_held_out_ones(layout):
    held_out = planted(layout, None).take_examples(200)["image"]
    found = NearestNeighbours(samples=200)(planted(layout, held_out))
    assert found.numbers["neighbour_ratio"] == 1
    noisy = NearestNeighbours(samples=200)(planted(layout, held_out, noise=0.5))
    assert noisy.numbers["neighbour_ratio"] > 1.2


def test_a_classifier_run_is_the_space_that_its_name_says(tmp_path, layout):
    every = Every(log=10, evaluate=0, sample=0, checkpoint=0)
    common = {"data": Digits(), "every": every, "devices": Devices(count=1)}
    run = Experiment(family=Classifier(MLPBackbone((12,))), steps=20, **common)
    genjax.train(run, tmp_path / "eyes", quiet=True)
    evaluators = (NearestNeighbours(samples=16, features=str(tmp_path / "eyes")),)
    judged = Experiment(family=VAE(2, MLPCoder((4,))), steps=2, evaluators=evaluators, **common)
    report = genjax.train(judged, tmp_path / "run", quiet=True).evaluate()
    protocol = report.protocols["neighbour_distance_eyes"]
    assert f"classifier run {tmp_path / 'eyes'}, step 20" in protocol and "no resizing" in protocol
    assert report.numbers["neighbour_ratio_eyes"] > 0
    with pytest.raises(UserError, match="make it: python -m genjax train"):
        load_models((NearestNeighbours(features="runs/nowhere"),), layout)


def test_features_of_another_run_than_a_classifier_are_refused(layout):
    on = subject(layout, toy.experiment(family=VAE(2, MLPCoder((4,))), data=Digits()))
    on = dataclasses.replace(on, others={"other": on.model})
    with pytest.raises(
        UserError, match="features must come from an image classifier, but other is none"
    ):
        feature_space(on, "other")


def test_what_has_no_samples_or_no_images_is_refused():
    with pytest.raises(UserError, match="NearestNeighbours needs images, but the data are points"):
        NearestNeighbours().check(
            VAE(2, MLPCoder((4,))), Points(size=10, test_size=5).open().spec, {}
        )
    with pytest.raises(
        UserError, match="NearestNeighbours needs samples, but a classifier draws no samples"
    ):
        NearestNeighbours().check(Classifier(MLPBackbone((4,))), Digits().open().spec, {})


def test_the_neighbours_of_a_training_split_would_be_itself(layout):
    on = dataclasses.replace(planted(layout, None), split="train")
    assert (
        not NearestNeighbours()(on).numbers
        and "not trained on" in NearestNeighbours()(on).remarks[0]
    )


def test_chunks_of_features_have_one_shape_and_no_padding():
    shapes = []

    def extract(images):
        shapes.append(images.shape)
        return images.reshape(len(images), -1) * 2

    images = np.random.default_rng(0).normal(size=(21, 2, 2, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        FeatureSpace("twice", extract, chunk=8)(images), 2 * images.reshape(21, 4)
    )
    assert shapes == [(8, 2, 2, 1)] * 3


def test_the_gap_is_the_difference_of_the_two_losses(layout):
    on: Subject = subject(layout, toy.experiment(family=Counting()))
    found = GeneralisationGap(limit=25)(on)
    params = on.model.state.params
    losses = {}
    for split in ("train", "test"):
        x = on.take_examples(25, split)["points"]
        again = x @ np.asarray(params["w"]["kernel"]) @ np.asarray(params["v"]["kernel"])
        losses[split] = np.square(again - x).sum(-1).mean()
    np.testing.assert_allclose(found.numbers["train_loss"], losses["train"], rtol=1e-5)
    np.testing.assert_allclose(
        found.numbers["gap_loss"], losses["test"] - losses["train"], rtol=1e-4
    )
    assert found.protocol == "25 examples each of train and test, the same draws"


def test_the_gap_has_nothing_to_say_of_the_training_split(layout):
    on = dataclasses.replace(subject(layout, toy.experiment()), split="train")
    assert not GeneralisationGap()(on).numbers and GeneralisationGap()(on).remarks
