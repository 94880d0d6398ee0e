"""Label agreement: the labels that samplers ask for, shares that are planted, and what has no
labels to ask for.
"""

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.evaluation.drawing import CHUNK, cycle_labels, draw_samples
from genjax.evaluation.images import agreement
from genjax.evaluation.images.agreement import LabelAgreement, confusion
from genjax.families.classifier import Classifier
from genjax.families.diffusion import conditioning
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.gan.gan import GAN
from genjax.families.vae import VAE, PriorSampler
from genjax.nets.mlp import MLPBackbone, MLPCoder
from genjax.parallel import Devices
from tests import toy
from tests.evaluation.test_bias import RUN, evenly, eyes, painted, planted
from tests.evaluation.test_judge import a_state

CONDITIONAL = Diffusion(conditional=True)


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def conditional(layout, drawn, classes=10, **others):
    """A subject that draws samples of the classes [N], whatever it is requested."""
    on = planted(layout, painted(drawn, classes), {"test": evenly(50, classes)}, classes, **others)
    return dataclasses.replace(on, model=dataclasses.replace(on.model, family=CONDITIONAL))


@dataclass(frozen=True)
class Asking(toy.Toy):
    """Its samples are the labels that it is requested."""

    classes: int = 10

    def sample(self, state, key, n, options):
        return jnp.arange(n) % self.classes


@pytest.mark.parametrize("classes", [3, 10, 256, 300])
@pytest.mark.parametrize("count", [1, 100, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_labels_are_those_that_a_sampler_of_all_in_turn_is_asked_for(layout, classes, count):
    family = Asking(classes=classes)
    state = a_state(toy.experiment())
    drawn = draw_samples(layout, family, state, state.key, count, family.sampler)
    np.testing.assert_array_equal(cycle_labels(count, classes), drawn)


def test_labels_are_those_that_diffusion_is_asked_for(layout):
    """Its chunks begin anew, which the labels of one long row do not."""
    drawn = conditioning.choose_labels(None, CHUNK, 10, a_state(toy.experiment()))
    np.testing.assert_array_equal(drawn, cycle_labels(CHUNK, 10))
    assert cycle_labels(CHUNK + 1, 10)[-1] == 0 != CHUNK % 10


def test_a_model_that_draws_what_it_is_asked_for_agrees_wholly(layout):
    found = LabelAgreement(RUN, 300)(conditional(layout, cycle_labels(300, 10)))
    assert found.numbers == {"label_agreement": 1.0, "classes_found": 10}
    assert (
        "300 samples by Denoising(" in found.protocol
        and "10 of 10 labels in turn" in found.protocol
    )
    assert f"by the classifier run {RUN}, step 0; found: at least 0.1 of" in found.protocol
    assert found.pictures["asked_and_drawn"].dtype == np.uint8 and len(found.pictures) == 1


def test_the_share_that_agrees_is_counted(layout, monkeypatch):
    seen = []
    draw = agreement._picture
    monkeypatch.setattr(
        agreement,
        "_picture",
        lambda table, title: seen.append((table, title)) or draw(table, title),
    )
    asked = cycle_labels(1000, 10)
    drawn = np.where(asked == 3, 8, asked)  # for every 3 an 8
    slips = np.flatnonzero(asked == 5)[:4]
    drawn[slips] = 3
    found = LabelAgreement(RUN)(conditional(layout, drawn))
    threes = (asked == 3).sum()
    np.testing.assert_allclose(found.numbers["label_agreement"], 1 - (threes + 4) / 1000)
    assert found.numbers["classes_found"] == 9  # 4 slips are no class
    [(table, title)] = seen
    assert (
        table[3, 8] == threes
        and table[5, 3] == 4
        and table.sum() == 1000
        and table[3].sum() == threes
    )
    assert title == f"{1 - (threes + 4) / 1000:.1%} as requested, 9 of 10 classes found"


def test_deaf_models_agree_by_chance_and_errors_of_the_classifier_count_against_a_model(layout):
    asked = cycle_labels(256, 4)
    deaf = LabelAgreement(RUN, 256)(conditional(layout, 0 * asked + 2, 4))
    assert deaf.numbers == {"label_agreement": 0.25, "classes_found": 1}
    blind = {RUN: eyes(4, taken_for=[0, 1, 2, 2])}
    right = LabelAgreement(RUN, 256)(conditional(layout, asked, 4, others=blind))
    assert right.numbers == {"label_agreement": 0.75, "classes_found": 3}


def test_a_confusion_has_a_row_a_label_and_a_column_a_class():
    table = confusion(np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 2]), 3)
    np.testing.assert_array_equal(table, [[1, 1, 0], [0, 1, 0], [2, 0, 1]])


@pytest.mark.parametrize("classes", [2, 12, 30])
def test_pictures_of_few_classes_and_of_many_have_a_fit_size(classes):
    picture = agreement._picture(np.eye(classes, dtype=int), "all as requested")
    assert min(picture.shape[:2]) > 400 and max(picture.shape[:2]) < 1300 and picture.shape[-1] == 3


def test_what_cannot_be_asked_for_labels_is_refused_before_the_first_step():
    images = Digits().open().spec
    evaluator = LabelAgreement(RUN)
    for family in (CONDITIONAL, GAN(conditional=True), VAE(2, MLPCoder((4,)), conditional=True)):
        evaluator.check(family, images, {RUN: eyes(10)})
    evaluator.check(CONDITIONAL, images, {})  # the run is not loaded while training
    with pytest.raises(
        UserError, match=r"needs a class-conditional model .* which this Diffusion is not"
    ):
        evaluator.check(Diffusion(), images, {})
    with pytest.raises(
        UserError, match=r"needs a class-conditional model .* which this Toy is not"
    ):
        evaluator.check(toy.Toy(), images, {})
    with pytest.raises(UserError, match="needs samples, but a classifier draws no samples"):
        evaluator.check(Classifier(MLPBackbone((4,))), images, {})
    fixed = (
        dataclasses.replace(CONDITIONAL, sampler=Denoising(label=0)),
        VAE(2, MLPCoder((4,)), conditional=True, sampler=PriorSampler(label=0)),
    )
    for family in fixed:
        with pytest.raises(UserError, match="sampler.label must be None"):
            evaluator.check(family, images, {})
    with pytest.raises(UserError, match="has 2 classes, but the data have 10 labels"):
        evaluator.check(CONDITIONAL, images, {RUN: eyes(2)})
    with pytest.raises(UserError, match="needs labels, but the data have none"):
        evaluator.check(CONDITIONAL, dataclasses.replace(images, classes=None), {})
    with pytest.raises(UserError, match="image classifier, but runs/eyes is none"):
        evaluator.check(
            CONDITIONAL, images, {RUN: dataclasses.replace(eyes(10), family=CONDITIONAL)}
        )
    with pytest.raises(UserError, match="sample of each of 10 labels at least, not 9"):
        LabelAgreement(RUN, 9).check(CONDITIONAL, images, {})
    with pytest.raises(UserError, match="samples must be at least 1"):
        LabelAgreement(RUN, 0)
    assert evaluator.runs == (RUN,)
