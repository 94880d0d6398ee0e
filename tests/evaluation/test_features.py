"""Named feature spaces: what each one is called, how wide it is, what is refused before
training.
"""

import dataclasses

import jax
import numpy as np
import pytest

from genjax import parallel
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.features import inception
from genjax.evaluation.features.features import (
    check_features,
    feature_space,
    is_inception,
    label,
    list_runs,
)
from genjax.evaluation.features.inception import Conv, Pool
from genjax.families.classifier import Classifier
from genjax.families.vae import VAE
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.parallel import Devices
from tests import toy
from tests.evaluation.test_inception import draws
from tests.evaluation.test_judge import subject

SMALL = (
    Conv("stem", 4, (3, 3), 2),
    *[Pool("max", 2)] * 5,
    Conv("head", inception.FEATURES),
)  # down to 3x3


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


@pytest.fixture
def judged(layout):
    on = subject(layout, toy.experiment(family=VAE(2, MLPCoder((4,))), data=Digits()))
    eyes = subject(
        layout, toy.experiment(family=Classifier(MLPBackbone((12, 7))), data=Digits())
    ).model
    return dataclasses.replace(on, others={"runs/eyes": eyes, "runs/vae": on.model})


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of weights of a small network that stands in for Inception."""
    monkeypatch.setattr(inception, "NETWORK", SMALL)
    np.savez(tmp_path / "inception.npz", **draws())
    return f"inception:{tmp_path / 'inception.npz'}"


def test_a_space_has_a_short_label_and_needs_a_run_or_none():
    spaces = (
        "pixels",
        "inception",
        "inception:/a/weights.npz",
        "runs/eyes",
        "runs/eyes/",
        "./inception",
    )
    assert [label(space) for space in spaces] == [
        "pixels",
        "inception",
        "inception",
        "eyes",
        "eyes",
        "inception",
    ]
    assert [list_runs(space) for space in spaces] == [
        (),
        (),
        (),
        *((space,) for space in spaces[3:]),
    ]
    assert [is_inception(space) for space in spaces] == [False, True, True, False, False, False]


def test_the_number_of_features_is_known_before_training_and_right(judged, file):
    images = judged.take_examples(3)["image"]
    spec = judged.model.spec
    for space, width in (("pixels", 64), ("runs/eyes", 7), (file, 2048)):
        assert check_features(space, spec, judged.others) == width
        assert feature_space(judged, space)(images).shape == (3, width)
    assert check_features("runs/eyes", spec, {}) is None  # not loaded


def test_a_space_is_made_once(judged, file, monkeypatch):
    for space in ("pixels", "runs/eyes", file):
        assert feature_space(judged, space) is feature_space(judged, space)
    again = dataclasses.replace(judged, made={})
    assert feature_space(again, "pixels") is not feature_space(judged, "pixels")


def test_inception_features_are_of_the_file_and_say_how_images_are_resized(judged, file):
    space = feature_space(judged, file)
    assert space.name == (
        "Inception-v3 pool features (2015-12-05 weights) of 8-bit images, resized 8x8 to 299x299 "
        "bilinearly, grey "
        "repeated as RGB"
    )
    images = judged.take_examples(35)["image"]  # more than a chunk
    bytes_as_published = judged.model.codec.decode(images[-2:])
    expected = jax.jit(inception.features)(
        draws(), bytes_as_published.astype(np.float32) / np.float32(127.5) - 1
    )
    np.testing.assert_allclose(space(images)[-2:], expected, rtol=1e-4, atol=1e-5)


def test_inception_without_a_file_takes_the_published_one_from_the_cache(
    judged, file, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(inception, "URL", (tmp_path / "inception.npz").as_uri())
    monkeypatch.setattr(inception, "SHA256", "")
    assert check_features("inception", judged.model.spec, {}) == 2048
    assert (tmp_path / "cache" / "genjax" / "inception.npz").is_file()
    monkeypatch.setattr(inception, "URL", (tmp_path / "gone.npz").as_uri())
    with pytest.raises(UserError, match="cannot download the Inception weights"):
        check_features("inception", judged.model.spec, {})


def test_what_has_no_features_is_refused_before_training(judged, file, tmp_path):
    spec = judged.model.spec
    for space in ("pixels", file, "runs/eyes"):
        with pytest.raises(UserError, match="need images, but the data are points"):
            check_features(space, Points(size=10, test_size=5).open().spec, judged.others)
    with pytest.raises(
        UserError, match="features must come from an image classifier, but runs/vae is"
    ):
        check_features("runs/vae", spec, judged.others)
    four = dataclasses.replace(spec, shape=(8, 8, 4))
    with pytest.raises(UserError, match="runs/eyes need images with 1 channels, got 4"):
        check_features("runs/eyes", four, judged.others)
    with pytest.raises(UserError, match="images with 1 or 3 channels, got 4"):
        check_features(file, four, {})
    with pytest.raises(UserError, match="there are no Inception weights at"):
        check_features("inception:nowhere.npz", spec, {})
    stored = tmp_path / "inception.npz"
    stored.write_bytes(stored.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot read the Inception weights"):
        check_features(file, spec, {})
