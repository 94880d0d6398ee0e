"""The guidance curve of a model whose guided samples are known: what agrees, and how far
samples lie apart.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import parallel
from genjax.data.codecs import ImageCodec
from genjax.data.dataset import Spec
from genjax.data.sources import Digits, Points
from genjax.errors import UserError
from genjax.evaluation.drawing import cycle_labels
from genjax.evaluation.images.guidance import GuidanceCurve, mean_label_distance
from genjax.evaluation.judge import Model, Subject
from genjax.families.diffusion.diffusion import Denoising, Diffusion
from genjax.families.vae import VAE
from genjax.family import State
from genjax.nets.mlp import MLPCoder
from genjax.parallel import Devices
from genjax.samplers import DDIM
from genjax.samplers.diffusion.processes import VPCosine
from tests.evaluation.test_bias import RUN, eyes

CLASSES = 3
CONDITIONAL = Diffusion(conditional=True)


@dataclass(frozen=True)
class Painter(Diffusion):
    """Estimates the brightness that stands for the label; without one, the first or the last
    by the noise's sign.
    """

    def predict(self, params, x, t, told, key=None):
        label = told["label"][:, None, None, None]
        by_chance = jnp.where(x[:, :1, :1, :1] > 0, CLASSES - 1, 0)
        level = jnp.where(label == CLASSES, by_chance, label)
        return jnp.broadcast_to(2 * level / (CLASSES - 1) - 1.0, x.shape)


PAINTER = Painter(process=VPCosine(), target="x0", conditional=True, sampler=Denoising(DDIM(1)))


@pytest.fixture(scope="module")
def on():
    spec = Spec("image", (4, 4, 1), np.zeros((4, 4, 1), np.float32), classes=CLASSES)
    params = {"net": {"label": {"embedding": jnp.zeros((CLASSES + 1, 2))}}}
    state = State(
        jnp.zeros((), jnp.int32),
        params,
        None,
        {"mean": jnp.zeros((4, 4, 1))},
        None,
        jax.random.key(0),
    )
    model = Model(PAINTER, state, spec, ImageCodec(4, 4, 1), "step 0")
    layout = parallel.start(Devices(count=1))
    return Subject(model, {}, "test", jax.random.key(1), layout, 16, {RUN: eyes(CLASSES)})


def test_the_curve_is_that_of_samples_which_are_known(on):
    scales = (0.0, 0.25, 1.0, 3.0)
    found = GuidanceCurve(RUN, scales, samples=300)(on)
    # The choice by chance is the sign of the noise that a sample begins with: seen in unconditional
    # samples.
    plain = on.draw_samples_with(dataclasses.replace(PAINTER.sampler, guidance_scale=0.0), 300)
    chance, asked = plain.mean((1, 2, 3)), cycle_labels(300, CLASSES)
    assert set(chance) == {-1.0, 1.0} and 0.4 < (chance > 0).mean() < 0.6
    label_level = asked - 1.0
    for scale in scales:
        level = np.clip(chance + scale * (label_level - chance), -1, 1)
        classes = np.rint(level + 1).astype(int)
        apart = np.sqrt(2) * (classes[:, None] != classes[None])  # features are one-hot
        rows = [np.flatnonzero(asked == label) for label in range(CLASSES)]
        within = [apart[np.ix_(of, of)][np.triu_indices(len(of), 1)].mean() for of in rows]
        np.testing.assert_allclose(
            found.numbers[f"agreement_at_{scale:g}"], (classes == asked).mean()
        )
        np.testing.assert_allclose(
            found.numbers[f"diversity_at_{scale:g}"], np.mean(within), atol=1e-6
        )
    assert found.numbers["agreement_at_1"] == 1 and found.numbers["diversity_at_1"] == 0
    assert found.numbers["agreement_at_0"] < 0.45 and found.numbers["diversity_at_0"] > 0.6
    assert len(found.numbers) == 8 and set(found.pictures) == {"guidance"}
    assert (
        "300 samples at each guidance_scale" in found.protocol
        and "3 of 3 labels in turn" in found.protocol
    )
    assert f"classes and features before the head of the classifier run {RUN}" in found.protocol


def test_the_family_s_own_scale_draws_the_samples_that_other_evaluators_see(on):
    np.testing.assert_array_equal(on.draw_samples(20), on.draw_samples_with(PAINTER.sampler, 20))


def test_distances_are_within_labels():
    x = np.array([[0.0], [1.0], [10.0], [13.0], [99.0]])
    assert mean_label_distance(x, np.array([0, 0, 1, 1, 2])) == 2  # of the last there is no pair
    assert mean_label_distance(x[[0, 2, 1, 3, 4]], np.array([0, 1, 0, 1, 2])) == 2


def test_what_cannot_be_guided_is_refused_before_the_first_step():
    images, points = Digits().open().spec, Points(size=10, test_size=5).open().spec
    evaluator = GuidanceCurve(RUN)
    evaluator.check(CONDITIONAL, images, {RUN: eyes(10)})
    evaluator.check(CONDITIONAL, images, {})
    assert evaluator.runs == (RUN,) and not evaluator.while_training
    with pytest.raises(
        UserError,
        match="GuidanceCurve needs a Diffusion or .* or CodePrior or NextScale, got a VAE",
    ):
        evaluator.check(VAE(2, MLPCoder((4,)), conditional=True), images, {})
    with pytest.raises(UserError, match="GuidanceCurve needs images, but the data are points"):
        evaluator.check(CONDITIONAL, points, {})
    with pytest.raises(UserError, match="needs a class-conditional model"):
        evaluator.check(Diffusion(), images, {})
    with pytest.raises(UserError, match="trained with drop_label"):
        evaluator.check(dataclasses.replace(CONDITIONAL, drop_label=0.0), images, {})
    GuidanceCurve(RUN, (1.0,)).check(dataclasses.replace(CONDITIONAL, drop_label=0.0), images, {})
    with pytest.raises(
        UserError, match=r"sampler\.label must be None for GuidanceCurve, which needs all"
    ):
        evaluator.check(dataclasses.replace(CONDITIONAL, sampler=Denoising(label=2)), images, {})
    with pytest.raises(UserError, match="has 3 classes, but the data have 10 labels"):
        evaluator.check(CONDITIONAL, images, {RUN: eyes(3)})
    with pytest.raises(UserError, match="samples must be >= 20, two for each label, got 19"):
        GuidanceCurve(RUN, samples=19).check(CONDITIONAL, images, {})
    for wrong in ((), (1.0, 1.0), (2.0, 1.0), (-1.0, 0.0), (1.0, float("inf"))):
        with pytest.raises(UserError, match="scales"):
            GuidanceCurve(RUN, wrong)
    with pytest.raises(UserError, match="samples must be at least 2, got 1"):
        GuidanceCurve(RUN, samples=1)
