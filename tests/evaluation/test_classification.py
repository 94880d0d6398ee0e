"""Calibration against plain loops and cases by hand; confusions; every example of a split once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as peers

from genjax import parallel
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.evaluation.judge import Judge, Model, Subject
from genjax.evaluation.likelihood.classification import (
    Calibration,
    Confusions,
    bin_by_confidence,
    brier,
    confusion_matrix,
    find_surest_mistakes,
    nll,
    predict_split,
)
from genjax.families.classifier import Classifier, predict
from genjax.family import init_state
from genjax.nets.mlp import MLPBackbone
from genjax.optim import Adam
from genjax.parallel import Devices
from tests import toy


def probabilities(rows=200, classes=4):
    draw = np.random.default_rng(0)
    p = draw.dirichlet(np.full(classes, 0.3), rows).astype(np.float32)
    return p, draw.integers(0, classes, rows)


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_calibration_error_equals_a_plain_loop(bins):
    p, label = probabilities()
    total = 0.0
    for m in range(bins):
        inside = [i for i in range(len(p)) if m / bins < p[i].max() <= (m + 1) / bins]
        if inside:
            accuracy = sum(p[i].argmax() == label[i] for i in inside) / len(inside)
            confidence = sum(float(p[i].max()) for i in inside) / len(inside)
            total += len(inside) / len(p) * abs(accuracy - confidence)
    table = bin_by_confidence(p.max(-1), p.argmax(-1) == label, bins)
    np.testing.assert_allclose(table.error, total, rtol=1e-5)
    assert table.examples.sum() == len(p)


def test_the_calibration_error_by_hand():
    confidence = np.array([0.5, 0.5, 0.75, 1.0])  # bins (0, .25], (.25, .5], (.5, .75], (.75, 1]
    table = bin_by_confidence(confidence, np.array([True, False, True, False]), 4)
    np.testing.assert_array_equal(table.examples, [0, 2, 1, 1])
    np.testing.assert_allclose(table.accuracy, [0, 0.5, 1, 0])
    np.testing.assert_allclose(table.error, (2 * 0 + 0.25 + 1) / 4)
    sure = bin_by_confidence(np.ones(3), np.ones(3, bool), 15)
    assert sure.error == 0


def test_the_brier_score_and_the_likelihood():
    p, label = probabilities()
    loop = np.mean([sum((p[i, k] - (k == label[i])) ** 2 for k in range(4)) for i in range(len(p))])
    np.testing.assert_allclose(brier(p, label), loop, rtol=1e-5)
    two = np.array([[1.0, 0.0], [0.25, 0.75]])
    np.testing.assert_allclose(brier(two, np.array([1, 1])), (2 + 2 * 0.25**2) / 2)
    safe = np.clip(p.astype(np.float64), 1e-6, None)
    safe /= safe.sum(-1, keepdims=True)
    np.testing.assert_allclose(nll(np.log(safe), label), peers.log_loss(label, safe), rtol=1e-6)


def test_the_confusion_matrix_is_scikit_learns():
    p, label = probabilities()
    counts = confusion_matrix(p.argmax(-1), label, 5)  # the fifth class has no example
    np.testing.assert_array_equal(
        counts, peers.confusion_matrix(label, p.argmax(-1), labels=range(5))
    )


def test_the_surest_mistakes_come_first():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.95, 0.05], [0.3, 0.7]])
    label = np.array([1, 1, 0, 0, 0])  # wrong: 0, 2, 4
    np.testing.assert_array_equal(find_surest_mistakes(np.log(p), label, 9), [0, 4, 2])
    np.testing.assert_array_equal(find_surest_mistakes(np.log(p), label, 2), [0, 4])
    assert not len(find_surest_mistakes(np.log(p), label, 0))


@pytest.fixture(scope="module")
def opened():
    return Digits().open()


def subject(opened, state=None, family=Classifier(MLPBackbone((8,))), batch_size=64, devices=1):
    layout = parallel.start(Devices(count=devices))
    if state is None:
        key, spec = jax.random.key(0), opened.spec
        example = {
            "image": jnp.zeros((1, *spec.shape)),
            "mask": jnp.ones(1),
            "label": jnp.zeros(1, jnp.int32),
        }
        state = init_state(*family.init(key, example, spec), Adam().build(1), key)
    model = Model(family, state, opened.spec, opened.codec, "step 0")
    return Subject(model, opened.splits, "test", jax.random.key(1), layout, batch_size)


@pytest.mark.parametrize(("batch_size", "devices"), [(64, 1), (297, 1), (64, 8)])
def test_every_held_out_example_is_judged_once(opened, batch_size, devices):
    """297 digits: the last batch is padded."""
    on = subject(opened, batch_size=batch_size, devices=devices)
    log_p, label = predict_split(on)
    batch = opened.splits["test"].batch(np.arange(297))
    np.testing.assert_array_equal(label, batch["label"])
    np.testing.assert_allclose(log_p, predict(on.model.family, on.model.state, batch), atol=1e-5)
    found = Calibration(bins=5)(on)
    p = np.exp(log_p)
    assert found.numbers["ece"] == bin_by_confidence(p.max(-1), p.argmax(-1) == label, 5).error
    np.testing.assert_allclose(found.numbers["brier"], brier(p, label))
    judged = on.compute_metrics(lambda family, *rest: family.evaluate(*rest))
    np.testing.assert_allclose(found.numbers["nll"], judged["loss"], rtol=1e-5)
    assert found.protocol == "5 bins of equal width, 297 examples of test"


def test_pictures_have_colours_and_the_mistakes_are_as_many_as_asked(opened):
    on = subject(opened)
    (diagram,) = Calibration()(on).pictures.values()
    found = Confusions(mistakes=3)(on)
    assert (
        set(found.pictures) == {"confusions", "mistakes"}
        and "297 examples of test" in found.protocol
    )
    for picture in (diagram, *found.pictures.values()):
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3
        assert picture.shape[0] > 100 and len(np.unique(picture)) > 10
    assert set(Confusions(mistakes=0)(on).pictures) == {"confusions"}
    log_p, label = predict_split(on)
    accuracies = [(log_p.argmax(-1) == label)[label == k].mean() for k in range(10)]
    np.testing.assert_allclose(found.numbers["worst_class_accuracy"], min(accuracies))


def test_what_is_no_classifier_is_refused():
    experiment = toy.experiment(evaluators=(Calibration(),))
    data = experiment.data.open()
    layout = parallel.start(Devices(count=1))
    with pytest.raises(UserError, match="Calibration"):
        Judge.of(experiment, layout, data, experiment.evaluators, {})
    assert Confusions.judges == Calibration.judges == (Classifier,)


def test_bad_values_are_refused():
    with pytest.raises(UserError, match="bin"):
        Calibration(bins=0)
    with pytest.raises(UserError, match="mistakes"):
        Confusions(mistakes=-1)
