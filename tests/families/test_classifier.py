"""Classifiers: their loss against PyTorch and scikit-learn, batch statistics under masks,
devices and resume.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import genjax
from genjax.data.dataset import Spec
from genjax.data.images.augment import Crop, Mixup
from genjax.data.sources import Digits
from genjax.errors import UserError
from genjax.experiment import Every
from genjax.families.classifier import Classifier, features, predict
from genjax.family import init_state
from genjax.losses import cross_entropy
from genjax.nets.conv.resnet import ResNet
from genjax.nets.mlp import MLPBackbone
from genjax.optim import SGD, Adam
from genjax.parallel import Devices
from genjax.schedules import Constant, Cosine
from tests import toy

KEY = jax.random.key(0)
SHAPE = (8, 6, 1)
SMALL = ResNet((4, 8), (1, 0))


def state_of(family, shape=SHAPE, classes=3, optimizer=SGD(Constant(0.1)), entry="image"):
    spec = Spec(entry, shape, np.full(shape, 0.25, np.float32), classes)
    params, variables = family.init(KEY, {entry: jnp.zeros((1, *shape)), "mask": jnp.ones(1)}, spec)
    return init_state(params, variables, optimizer.build(100), KEY)


def a_batch(rows=8, classes=3, seed=1):
    image, label = jax.random.split(jax.random.key(seed))
    return {
        "image": jax.random.uniform(image, (rows, *SHAPE), minval=-1),
        "label": jax.random.randint(label, (rows,), 0, classes),
        "mask": jnp.ones(rows),
    }


@functools.partial(jax.jit, static_argnums=(0, 3))
def stepped(family, state, batch, optimizer=SGD(Constant(0.1))):
    return family.train_step(state, batch, optimizer=optimizer.build(100))


def assert_close(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), a, b)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_the_cross_entropy_is_pytorchs(smoothing):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's CrossEntropyLoss")
    logits, label = np.array(5 * jax.random.normal(KEY, (7, 4))), np.array([0, 1, 2, 3, 3, 2, 0])
    peer = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    want = peer(torch.tensor(logits), torch.tensor(label))
    np.testing.assert_allclose(cross_entropy(logits, label, smoothing), want, rtol=1e-4, atol=1e-6)


def test_the_cross_entropy_is_minus_the_log_probability_and_stable_far_out():
    p = jnp.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(cross_entropy(jnp.log(p), jnp.array([1])), -np.log([0.2]), rtol=1e-6)
    smoothed = -(0.7 * np.log(0.2) + 0.1 * np.log([0.7, 0.2, 0.1]).sum())
    np.testing.assert_allclose(
        cross_entropy(jnp.log(p), jnp.array([1]), 0.3), [smoothed], rtol=1e-6
    )
    far = jnp.array([[1e4, 0.0, -1e4]])
    grads = jax.grad(lambda x: cross_entropy(x, jnp.array([2])).sum())(far)
    np.testing.assert_allclose(cross_entropy(far, jnp.array([2])), [2e4])
    np.testing.assert_allclose(grads, [[1, 0, -1]])


@pytest.mark.parametrize("label", [-1, 3, 2**30])
def test_a_label_that_is_no_class_stops_the_update(label):
    assert np.isnan(cross_entropy(jnp.zeros((1, 3)), jnp.array([label]))).all()
    family = Classifier(MLPBackbone((4,)))
    state, batch = state_of(family), a_batch()
    after, metrics = stepped(family, state, {**batch, "label": batch["label"].at[3].set(label)})
    assert metrics["skipped"].value == 1
    assert_close(after.params, state.params, 0)


def test_smoothing_is_for_training_alone_and_the_input_is_centred():
    family = Classifier(MLPBackbone(()), label_smoothing=0.3)
    state, batch = state_of(family), a_batch()
    flat = np.asarray(batch["image"]).reshape(8, -1) - 0.25
    logits = flat @ np.asarray(state.params["head"]["kernel"])
    np.testing.assert_allclose(predict(family, state, batch), jax.nn.log_softmax(logits), atol=1e-5)
    judged, trained = family.evaluate(state, batch, KEY), stepped(family, state, batch)[1]
    np.testing.assert_allclose(
        judged["loss"].value, cross_entropy(logits, batch["label"]).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        trained["loss"].value, cross_entropy(logits, batch["label"], 0.3).mean(), rtol=1e-5
    )
    hits = (logits.argmax(-1) == batch["label"]).mean()
    assert judged["accuracy"].value == trained["accuracy"].value == hits and 0 < hits < 1


def test_a_linear_classifier_reaches_the_optimum_of_logistic_regression():
    draw = np.random.default_rng(0)
    label = np.repeat(np.arange(3), 100)
    x = (draw.normal(size=(300, 2)) + np.array([[0, 0], [1, 1], [2, -1]])[label]).astype(np.float32)
    peer = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(x, label)
    optimum = peer.predict_log_proba(x)
    family, optimizer = Classifier(MLPBackbone(())), Adam(Cosine(0.1, 0.0, 1000))
    state, rule = state_of(family, (2,), entry="points", optimizer=optimizer), optimizer.build(1000)
    batch = {"points": jnp.asarray(x), "label": jnp.asarray(label), "mask": jnp.ones(300)}
    step = lambda s, _: (family.train_step(s, batch, optimizer=rule)[0], None)  # noqa: E731
    state = jax.jit(lambda s: jax.lax.scan(step, s, None, 1000)[0])(state)
    loss = family.evaluate(state, batch, KEY)["loss"].value
    np.testing.assert_allclose(loss, -optimum[np.arange(300), label].mean(), rtol=1e-5)
    np.testing.assert_allclose(predict(family, state, batch), optimum, atol=0.01)


@pytest.mark.long
def test_mixed_labels_cost_the_weighted_sum():
    family = Classifier(SMALL, label_smoothing=0.1)
    state, batch = state_of(family), a_batch()
    weight = jnp.linspace(0, 1, 8)
    other = (batch["label"] + 1) % 3
    one = {name: m.value for name, m in stepped(family, state, batch)[1].items()}
    two = {
        name: m.value for name, m in stepped(family, state, {**batch, "label": other})[1].items()
    }
    for w in (0.0, 0.25, 1.0):
        mixed = {**batch, "other_label": other, "other_weight": jnp.full(8, w)}
        found = stepped(family, state, mixed)[1]
        for name in ("loss", "accuracy"):
            want = (1 - w) * one[name] + w * two[name]
            np.testing.assert_allclose(found[name].value, want, rtol=1e-5, atol=1e-6)
    uneven = stepped(family, state, {**batch, "other_label": other, "other_weight": weight})[1][
        "loss"
    ].value
    assert abs(uneven - (one["loss"] + two["loss"]) / 2) > 1e-4  # each example has its own weight


def test_mixup_and_training_go_together():
    family, batch = Classifier(SMALL), a_batch()
    mixed = Mixup(alpha=1.0)(KEY, batch)
    _, metrics = stepped(family, state_of(family), mixed)
    assert metrics["skipped"].value == 0 and np.isfinite(metrics["loss"].value)


@pytest.mark.parametrize("net", [SMALL, MLPBackbone((5,))])
def test_padded_rows_weigh_nothing(net):
    family = Classifier(net)
    state, batch = state_of(family), a_batch()
    mask = jnp.array([1, 1, 0, 1, 1, 0, 1, 1.0])
    real = np.flatnonzero(mask)
    alone = {name: value[real] for name, value in batch.items()}
    padded = {**batch, "mask": mask, "image": batch["image"].at[2].set(40.0)}
    a, b = stepped(family, state, padded), stepped(family, state, alone)
    assert_close({n: m.value for n, m in a[1].items()}, {n: m.value for n, m in b[1].items()})
    assert_close((a[0].params, a[0].variables), (b[0].params, b[0].variables), 1e-4)
    values = (
        {n: m.value for n, m in family.evaluate(state, each, KEY).items()}
        for each in (padded, alone)
    )
    assert_close(*values)


def test_predictions_use_running_statistics_and_no_other_row():
    family = Classifier(SMALL)
    state, batch = state_of(family), a_batch()
    for _ in range(3):
        state, _ = stepped(family, state, batch)
    together = predict(family, state, batch)
    np.testing.assert_allclose(np.exp(together).sum(-1), 1, rtol=1e-5)
    alone = predict(family, state, {name: value[:1] for name, value in batch.items()})
    np.testing.assert_allclose(alone, together[:1], atol=1e-5)
    moved = jax.tree.map(lambda s: s + 1, state.variables["batch_stats"])
    other = predict(
        family, state.replace(variables={**state.variables, "batch_stats": moved}), batch
    )
    assert np.abs(other - together).max() > 0.01
    np.testing.assert_array_equal(state.variables["mean"], 0.25)


def test_features_are_what_the_head_sees():
    family = Classifier(SMALL, dropout=0.5)
    state, batch = state_of(family), a_batch()
    f = features(family, state, batch["image"])
    assert f.shape == (8, 8) and f.dtype == jnp.float32
    head = state.params["head"]
    np.testing.assert_allclose(
        predict(family, state, batch),
        jax.nn.log_softmax(f @ head["kernel"] + head["bias"][None]),
        atol=1e-5,
    )
    assert features(
        Classifier(MLPBackbone((7, 5))), state_of(Classifier(MLPBackbone((7, 5)))), batch["image"]
    ).shape == (8, 5)


def test_dropout_draws_anew_in_every_step():
    family, still = Classifier(MLPBackbone((32,)), dropout=0.5), SGD(Constant(0.0))
    state, batch = state_of(family), a_batch()
    state, first = stepped(family, state, batch, still)
    _, second = stepped(family, state, batch, still)
    assert first["loss"].value != second["loss"].value
    assert state.step == 1


def test_the_label_among_the_most_probable():
    family = Classifier(MLPBackbone(()), top=2)
    state, batch = state_of(family), a_batch(64)
    log_p, found = predict(family, state, batch), family.evaluate(state, batch, KEY)
    among = (
        (np.argsort(-log_p, axis=-1)[:, :2] == np.asarray(batch["label"])[:, None]).any(-1).mean()
    )
    assert found["top2"].value == among > found["accuracy"].value


def digits(**changes):
    settings = {"family": Classifier(SMALL), "data": Digits(), "optimizer": SGD(Constant(0.05))}
    return toy.experiment(**settings | changes)


def curve(run_dir, **changes):
    """The losses and gradient norms of every step, and the last state."""
    run = genjax.train(digits(**changes), run_dir, quiet=True)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return np.array([[r["loss"], r["grad_norm"]] for r in rows if r["split"] == "train"]), run.state


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
    return curve(tmp_path_factory.mktemp("one") / "run", batch_size=32)


@pytest.mark.parametrize(
    "devices", [Devices(8, "pmapped"), Devices(8, "sharded", fsdp=4)], ids=["pmapped", "sharded"]
)
@pytest.mark.long
def test_eight_devices_equal_one_with_their_batch_statistics(tmp_path, on_one, devices):
    rows, state = curve(tmp_path / "eight", batch_size=32, devices=devices)
    assert rows.shape == (20, 2) and on_one[0][-1, 0] < on_one[0][0, 0]
    np.testing.assert_allclose(rows, on_one[0], rtol=1e-4)
    compared = (jax.device_get((s.params, s.variables)) for s in (state, on_one[1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *compared)


@pytest.mark.long
def test_it_goes_on_bitwise_with_its_batch_statistics(tmp_path):
    settings = {
        "optimizer": Adam(),
        "augment": (Crop(padding=1),),
        "family": Classifier(SMALL, 0.1, 0.2),
    }
    rows, whole = curve(tmp_path / "whole", **settings)
    curve(tmp_path / "parts", **settings | {"steps": 7})
    again, parts = curve(tmp_path / "parts", **settings)
    np.testing.assert_array_equal(again, rows)
    unkeyed = (s.replace(key=jax.random.key_data(s.key)) for s in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, *unkeyed)
    assert any(np.any(s != 0) for s in jax.tree.leaves(whole.variables["batch_stats"]))


def test_it_learns_digits_in_bfloat16_and_draws_no_samples(tmp_path):
    every = Every(log=25, evaluate=100, sample=100, checkpoint=0)
    experiment = digits(
        optimizer=Adam(Cosine(1e-2)), steps=100, batch_size=64, every=every, precision="bfloat16"
    )
    run = genjax.train(experiment, tmp_path / "run", quiet=True)
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[-1]["split"] == "eval" and rows[-1]["accuracy"] > 0.8
    kinds = {leaf.dtype for leaf in jax.tree.leaves((run.state.params, run.state.variables))}
    assert kinds == {jnp.dtype("float32")}
    for each in (run, genjax.load(tmp_path / "run")):
        with pytest.raises(UserError, match=r"draws no samples.*evaluate"):
            each.sample(num=2)
    assert not list((tmp_path / "run" / "samples").iterdir())


def test_an_average_beside_batch_statistics_is_refused_and_without_them_kept(tmp_path):
    with pytest.raises(UserError, match="ema must be None"):
        genjax.train(digits(ema=0.9), tmp_path / "refused", quiet=True)
    run = genjax.train(
        digits(ema=0.9, family=Classifier(MLPBackbone((4,))), steps=2), tmp_path / "run", quiet=True
    )
    assert run.state.ema is not None


def test_a_split_without_labels_is_refused_in_words():
    state = state_of(Classifier(SMALL))
    with pytest.raises(UserError, match="this split of the data has no labels"):
        Classifier(SMALL).evaluate(
            state, {"image": jnp.zeros((2, *SHAPE)), "mask": jnp.ones(2)}, KEY
        )


def test_data_without_labels_are_refused(tmp_path):
    with pytest.raises(UserError, match="needs labels"):
        state_of(Classifier(SMALL), classes=None)
    with pytest.raises(UserError, match="needs labels"):
        curve(tmp_path / "run", family=Classifier(MLPBackbone((4,))), data=toy.ToyData())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"dropout": -0.1}, "dropout"),
        ({"top": 1}, "top"),
    ],
)
def test_bad_values_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Classifier(**settings)


def test_more_classes_asked_than_there_are_is_refused():
    with pytest.raises(UserError, match="must be < 3 .classes."):
        state_of(Classifier(SMALL, top=3))
