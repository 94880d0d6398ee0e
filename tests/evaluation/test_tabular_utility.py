"""Train on synthetic, test on real: real rows lose nothing, shuffled targets all, and errors
are those of the draws.
"""

import dataclasses
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from genjax import parallel
from genjax.errors import UserError
from genjax.evaluation.tables.utility import TrainOnSynthetic, score, split_target
from genjax.parallel import Devices
from tests.evaluation.tables import CODEC, FAMILY, SPEC, columns, drawn, table_subject, vectors
from tests.evaluation.test_bias import Planted

NAN = float("nan")


@pytest.fixture(scope="module")
def layout():
    return parallel.start(Devices(count=1))


def test_features_are_numbers_and_one_hots_of_rows_with_a_target():
    codec = dataclasses.replace(CODEC, target="kind")
    x, y = split_target(codec, columns([1, NAN, 3], ["b", "a", None], [4, 5, 6]))
    np.testing.assert_array_equal(x, [[1, 4], [NAN, 5]])
    assert y.tolist() == [1, 0]


@pytest.mark.parametrize(
    "learner", ["logistic_regression", "decision_tree", "random_forest", "nearest_neighbours"]
)
def test_every_learner_learns_what_can_be_learned(learner):
    assert score(CODEC, learner, drawn(200, 0), drawn(100, 1))["accuracy"] > 0.98


def test_missing_numbers_are_filled_in_also_where_training_had_none():
    gaps = drawn(100, 1)
    gaps["body mass"][::3] = NAN
    assert score(CODEC, "logistic_regression", drawn(200, 0), gaps)["accuracy"] > 0.98
    assert score(CODEC, "logistic_regression", gaps, drawn(100, 2))["accuracy"] > 0.98


def test_a_class_that_is_all_there_is_gives_its_share():
    alone = columns(np.zeros(20), ["b"] * 20, np.zeros(20))
    test = drawn(100, 1)
    assert score(CODEC, "random_forest", alone, test)["accuracy"] == (test["kind"] == "b").mean()


def test_samples_as_good_as_real_rows_lose_nothing(layout):
    on = table_subject(layout, drawn(200, 2), train=drawn(200, 0), test=drawn(150, 1))
    numbers = TrainOnSynthetic(("logistic_regression",), draws=2)(on).numbers
    assert numbers["trtr_accuracy"] > 0.98 and abs(numbers["tstr_gap"]) < 2
    assert numbers["tstr_error"] == 0  # both draws are the same here
    assert numbers["tstr_logistic_regression"] == numbers["tstr_accuracy"]


def test_targets_that_hang_on_nothing_are_worth_a_guess(layout):
    samples = drawn(300, 2)
    samples["kind"] = np.random.default_rng(3).permutation(samples["kind"])
    numbers = TrainOnSynthetic(("nearest_neighbours",), draws=2)(
        table_subject(layout, samples, train=drawn(300, 0), test=drawn(400, 1))
    ).numbers
    assert abs(numbers["tstr_accuracy"] - 0.5) < 0.12
    np.testing.assert_allclose(
        numbers["tstr_gap"], 100 * (numbers["trtr_accuracy"] - numbers["tstr_accuracy"])
    )


@dataclass(frozen=True)
class Turning(Planted):
    """Its samples are good or worthless, as the key says."""

    def draw_samples(self, n):
        good = int(jax.random.key_data(self.key)[-1]) % 2
        rows = drawn(n, 5)
        return vectors(rows if good else rows | {"age": np.zeros(n)})


def test_the_error_is_that_of_the_mean_over_the_draws(layout):
    on = table_subject(layout, drawn(9, 0), train=drawn(100, 0), test=drawn(100, 1))
    on = Turning(**{field.name: getattr(on, field.name) for field in dataclasses.fields(on)})
    good = [int(jax.random.key_data(jax.random.fold_in(on.key, i))[-1]) % 2 for i in range(4)]
    assert 0 < sum(good) < 4
    numbers = TrainOnSynthetic(("decision_tree",), draws=4)(on).numbers
    one, other = (
        score(CODEC, "decision_tree", CODEC.decode(vectors(rows)), drawn(100, 1))["accuracy"]
        for rows in (drawn(100, 5), drawn(100, 5) | {"age": np.zeros(100)})
    )
    each = np.where(good, one, other)
    np.testing.assert_allclose(numbers["tstr_accuracy"], each.mean(), atol=0.01)
    np.testing.assert_allclose(numbers["tstr_error"], each.std(ddof=1) / 2, atol=0.01)


def skewed(n, seed, share=0.9):
    """Rows whose kind is "b" mostly, and else follows from the age."""
    rows = drawn(n, seed)
    draw = np.random.default_rng(seed)
    kind = np.where(draw.random(n) < share, "b", "a").astype(object)
    return rows | {"kind": kind, "age": np.where(kind == "a", 20.0, 60.0) + draw.normal(size=n)}


def test_a_skewed_target_is_announced_and_measured_beside_the_majority(layout):
    test = skewed(300, 1)
    samples = skewed(300, 2)
    samples["kind"] = np.random.default_rng(3).permutation(samples["kind"])
    learner = TrainOnSynthetic(("logistic_regression",), draws=2)
    found = learner(table_subject(layout, samples, train=skewed(300, 0), test=test))
    numbers, share = found.numbers, (test["kind"] == "b").mean()
    assert numbers["majority_accuracy"] == share > 0.85 and numbers["tstr_accuracy"] > 0.8
    assert numbers["majority_balanced_accuracy"] == numbers["majority_auc"] == 0.5
    np.testing.assert_allclose(numbers["majority_f1"], share / (1 + share))
    assert abs(numbers["tstr_balanced_accuracy"] - 0.5) < 0.05
    assert numbers["trtr_balanced_accuracy"] > 0.98 and numbers["trtr_auc"] > 0.99
    first, second = found.remarks
    assert f"{100 * share:.0f} % of the rows of test" in first and "accuracy says little" in first
    assert "no better than the majority" in second
    good = learner(table_subject(layout, skewed(300, 2), train=skewed(300, 0), test=test))
    assert good.numbers["tstr_f1"] > 0.95 and good.remarks == (first,)
    even = learner(table_subject(layout, drawn(200, 2), train=drawn(200, 0), test=drawn(150, 1)))
    assert even.remarks == ()


def test_measures_are_those_of_scikit_learn_whatever_classes_samples_lack():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = drawn(200, 0), drawn(100, 1) | {"age": np.random.default_rng(0).normal(size=100)}
    (x, y), (seen, wanted) = split_target(CODEC, train), split_target(CODEC, test)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    found = score(CODEC, "logistic_regression", train, test)
    np.testing.assert_allclose(
        found["balanced_accuracy"], balanced_accuracy_score(wanted, model.predict(seen))
    )
    np.testing.assert_allclose(found["auc"], roc_auc_score(wanted, model.predict_proba(seen)[:, 1]))
    alone = columns(np.zeros(20), ["b"] * 20, np.zeros(20))
    lacking = score(CODEC, "random_forest", alone, drawn(100, 1))
    assert lacking["balanced_accuracy"] == lacking["auc"] == 0.5


def test_a_target_of_numbers_is_measured_by_r2(layout):
    def rows(n, seed):
        found = drawn(n, seed)
        noise = np.random.default_rng(seed).normal(size=n)
        return found | {"body mass": 2 * found["age"] + 0.1 * noise}

    on = table_subject(layout, rows(200, 2), train=rows(200, 0), test=rows(150, 1))
    codec = dataclasses.replace(CODEC, target="body mass")
    on = dataclasses.replace(on, model=dataclasses.replace(on.model, codec=codec))
    found = TrainOnSynthetic(("logistic_regression", "nearest_neighbours"), draws=2)(on)
    numbers = found.numbers
    assert 0.95 < numbers["trtr_r2"] <= 1 and abs(numbers["tstr_gap"]) < 5 and not found.remarks
    assert -0.1 < numbers["majority_r2"] <= 0
    assert {"tstr_logistic_regression", "tstr_error"} < set(numbers)
    assert "tstr_accuracy" not in numbers
    noise = rows(200, 2) | {"body mass": np.random.default_rng(5).normal(size=200)}
    on = table_subject(layout, noise, train=rows(200, 0), test=rows(150, 1))
    on = dataclasses.replace(on, model=dataclasses.replace(on.model, codec=codec))
    (remark,) = TrainOnSynthetic(("decision_tree",), draws=2)(on).remarks
    assert "no better than its mean" in remark


def test_what_cannot_be_learned_is_refused(layout):
    rows = drawn(20, 0)
    with pytest.raises(UserError, match="data.target is needed"):
        score(dataclasses.replace(CODEC, target=None), "decision_tree", rows, rows)
    empty = rows | {"kind": np.array([None] * 20, object)}
    with pytest.raises(UserError, match="the target column 'kind' must have a value"):
        score(CODEC, "decision_tree", empty, rows)
    with pytest.raises(
        UserError,
        match="learners.0 must be one of 'logistic_regression', 'decision_tree', 'random_forest', "
        "'nearest_neighbours'",
    ):
        TrainOnSynthetic(("random_forrest",))
    for fields in ({"learners": ()}, {"draws": 1}, {"limit": 1}):
        with pytest.raises(UserError, match=f"^{next(iter(fields))} must be"):
            TrainOnSynthetic(**fields)
    on = dataclasses.replace(table_subject(layout, rows, train=rows, test=rows), split="train")
    assert TrainOnSynthetic()(on).remarks == (
        "train on synthetic, test on real needs a split that was not trained on",
    )
    TrainOnSynthetic().check(FAMILY, SPEC, {})
