"""Measures whether samples can replace a table: models trained on them are tested on real rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.codec import Columns
from genjax.errors import UserError, unknown_name
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.tables.rows import check_table, data_columns, sample_columns
from genjax.family import Family

Scores = dict[str, float]
Learner = Literal["logistic_regression", "decision_tree", "random_forest", "nearest_neighbours"]


# For categories, each a mean over learners; for numbers there is only R2.
MEASURES = ("accuracy", "balanced_accuracy", "f1", "auc")
NOTICEABLE = 0.05  # distance beyond its limit from which a score comes with a caution
SURE = 0.9999  # R2 from which another column must determine the target
SKEWED = 0.8  # share of the most common value from which accuracy means little


@checks.frozen
class TrainOnSynthetic(Evaluator):
    """Trains on synthetic rows and tests on real ones (Esteban et al., arXiv 1706.02633).

    scikit-learn's classifiers, or regressors if the target is a number, are trained to predict the
    table's target from as many samples as there are training rows, and from the training rows; both
    are tested on the evaluated split. Rows with a missing target are left out.

    Numbers: ``tstr_<measure>`` of training on samples, averaged over learners and ``draws`` sets of
    samples; ``trtr_<measure>`` of training on real rows; ``majority_<measure>`` of always
    predicting the most common value of the training rows, or the mean of numbers. The measures are
    ``accuracy``, ``balanced_accuracy`` (the mean recall of the classes), ``f1`` and ``auc`` (means
    over classes, each against the rest), or ``r2``. For the first measure there are also
    ``tstr_<learner>`` and ``trtr_<learner>``, ``tstr_error``, its standard error over the sets, and
    ``tstr_gap``, by how many percentage points samples are worse.

    Attributes:
      learners: "logistic_regression" (ridge regression for numbers), "decision_tree",
          "random_forest" or "nearest_neighbours", each with scikit-learn's default
          hyper-parameters.
      draws: number of sets of samples.
      limit: maximum number of training rows, evenly spaced, and of samples.
    """

    learners: tuple[Learner, ...] = ("logistic_regression", "random_forest")
    draws: int = 5
    limit: int = 10_000

    def __post_init__(self) -> None:
        for name in self.learners:
            if name not in get_args(Learner):
                raise unknown_name("learner", name, get_args(Learner))
        checks.some(self, "learners")
        checks.at_least(self, 2, "draws", "limit")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_table(type(self).__name__, family, spec)

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(
                remarks=("train on synthetic, test on real needs a split that was not trained on",)
            )
        train, test = (
            data_columns(subject, "train", self.limit),
            data_columns(subject, subject.split),
        )
        rows = len(next(iter(train.values())))
        codec: Component = subject.model.codec
        real = self._scores(codec, train, test)
        found = []
        for number in range(self.draws):
            another = dataclasses.replace(
                subject, key=jax.random.fold_in(subject.key, number), made={}
            )
            found.append(self._scores(codec, sample_columns(another, rows), test))
        numbers = self._numbers(real, found, score_constant(codec, train, test))
        return Findings(
            numbers,
            {},
            f"{self.draws} sets of {rows:,} samples by {subject.model.family.sampler}, {rows:,} "
            "training rows, "
            f"tested on {subject.split}",
            tuple(_make_remarks(codec, numbers, subject.split)),
        )

    def _scores(self, codec: Component, train: Columns, test: Columns) -> list[Scores]:
        """Score each learner."""
        return [score(codec, name, train, test) for name in self.learners]

    def _numbers(
        self, real: list[Scores], drawn: list[list[Scores]], constant: Scores
    ) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for measure in constant:
            synthetic = np.array([[scores[measure] for scores in one] for one in drawn])
            overall, known = synthetic.mean(1), [scores[measure] for scores in real]
            numbers[f"tstr_{measure}"] = float(overall.mean())
            numbers[f"trtr_{measure}"] = float(np.mean(known))
            numbers[f"majority_{measure}"] = constant[measure]
            if measure != next(iter(constant)):
                continue
            numbers["tstr_error"] = float(overall.std(ddof=1) / np.sqrt(self.draws))
            numbers["tstr_gap"] = float(100 * (np.mean(known) - overall.mean()))
            for i, name in enumerate(self.learners):
                numbers[f"tstr_{name}"] = float(synthetic[:, i].mean())
                numbers[f"trtr_{name}"] = float(known[i])
        return numbers

    def cautions(self, numbers: Mapping[str, float]) -> tuple[str, ...]:
        found = []
        drawn, real = numbers.get("tstr_auc", 0.5), numbers.get("trtr_auc", 0.5)
        if drawn < 0.5 - NOTICEABLE and real > 0.5 + NOTICEABLE:
            found.append(
                f"tstr_auc {drawn:.3g} is worse than guessing (0.5), while trtr_auc is "
                f"{real:.3g}: the samples may have the target inverted"
            )
        for name in ("auc", "accuracy", "balanced_accuracy", "f1", "r2"):
            if numbers.get(f"tstr_{name}", 0.0) > numbers.get(f"trtr_{name}", 1.0) + NOTICEABLE:
                found.append(
                    f"tstr_{name} {numbers[f'tstr_{name}']:.3g} is above that from real rows, "
                    f"{numbers[f'trtr_{name}']:.3g}: samples cannot hold more than the rows that "
                    "the model learned from; the split may be small, or in the training data"
                )
        if numbers.get("trtr_auc") == 1 or numbers.get("trtr_r2", 0.0) > SURE:
            found.append(
                "real rows predict the target without a mistake: a column may be a copy of it, so "
                "utility says nothing about the others"
            )
        return tuple(found)


def _make_remarks(codec: Component, numbers: Mapping[str, float], split: str) -> Iterator[str]:
    """Yield remarks that put the numbers into context."""
    if "tstr_r2" in numbers:
        if numbers["trtr_r2"] > 0.1 and numbers["tstr_r2"] <= 0:
            yield (
                f"regressors trained on samples predict {codec.target!r} no better than its "
                f"mean (R2 {numbers['tstr_r2']:.2f}; from real rows {numbers['trtr_r2']:.2f})"
            )
        return
    share = numbers["majority_accuracy"]
    if share >= SKEWED:
        yield (
            f"{100 * share:.0f} % of the rows of {split} have the most common value of "
            f"{codec.target!r}, so accuracy says little: compare balanced_accuracy, f1 and auc "
            "with those of the majority"
        )
    real, drawn, least = (
        numbers[f"{who}_balanced_accuracy"] for who in ("trtr", "tstr", "majority")
    )
    if real - least > 0.05 and drawn - least < 0.1 * (real - least):
        yield (
            f"classifiers trained on samples predict {codec.target!r} no better than the "
            f"majority (balanced accuracy {drawn:.2f}; from real rows {real:.2f})"
        )


def score(codec: Component, learner: Learner, train: Columns, test: Columns) -> Scores:
    """Train a learner to predict the target on ``train``, and score it on ``test``.

    Returns:
      ``MEASURES`` for a target of categories, R2 for numbers.

    Raises:
      UserError: the table has no target, or no row has a value in it.
    """
    (x, y), (seen, wanted) = (split_target(codec, columns) for columns in (train, test))
    if not len(y) or not len(wanted):
        raise UserError(f"the target column {codec.target!r} must have a value in some row")
    if y.dtype.kind == "f":
        return _score_numbers(_regressor(learner).fit(x, y).predict(seen), wanted)
    model = _constant() if len(np.unique(y)) < 2 else _classifier(learner)
    return _score_categories(model.fit(x, y), seen, wanted)


def score_constant(codec: Component, train: Columns, test: Columns) -> Scores:
    """Score, as ``score`` does, always predicting the most common value, or the mean of numbers."""
    (x, y), (seen, wanted) = (split_target(codec, columns) for columns in (train, test))
    if y.dtype.kind == "f":
        return _score_numbers(np.full(len(wanted), y.mean()), wanted)
    return _score_categories(_constant().fit(x, y), seen, wanted)


def _score_categories(model: Any, seen: np.ndarray, wanted: np.ndarray) -> Scores:
    from sklearn.metrics import f1_score, recall_score, roc_auc_score

    guess, shares, there = model.predict(seen), model.predict_proba(seen), np.unique(wanted)
    of_class = {known: shares[:, i] for i, known in enumerate(model.classes_)}
    nothing = np.zeros(len(wanted))
    areas = [roc_auc_score(wanted == c, of_class.get(c, nothing)) for c in there if len(there) > 1]
    options: Any = {"labels": there, "average": "macro", "zero_division": 0}
    return {
        "accuracy": float((guess == wanted).mean()),
        "balanced_accuracy": float(recall_score(wanted, guess, **options)),
        "f1": float(f1_score(wanted, guess, **options)),
        "auc": float(np.mean(areas)) if areas else 0.5,  # a single class
    }


def _score_numbers(guess: np.ndarray, wanted: np.ndarray) -> Scores:
    apart = np.square(wanted - wanted.mean()).sum()
    return {"r2": float(1 - np.square(wanted - guess).sum() / apart) if apart else 0.0}


def split_target(codec: Component, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Split rows with a target into features, float64 [N, F] with NaN for missing numbers, and
    targets [N]: codes of categories, or float64 numbers.

    Raises:
      UserError: the table has no target.
    """
    named = {column.name: column for column in (*codec.numbers, *codec.categories)}
    target = named.get(codec.target)
    if target is None:
        raise UserError(
            "data.target is needed: TrainOnSynthetic predicts this column", "data.target"
        )
    values = columns[target.name]
    numeric = values.dtype.kind == "f"
    known = ~np.isnan(values) if numeric else np.array([value is not None for value in values])
    features = [
        columns[column.name][known, None] for column in codec.numbers if column.name != target.name
    ]
    for column in codec.categories:
        if column.name != target.name:
            features.append(np.eye(column.size)[column.encode(columns[column.name][known])])
    wanted = values[known].astype(np.float64) if numeric else target.encode(values[known])
    if not features:
        raise UserError(f"TrainOnSynthetic needs columns other than the target {codec.target!r}")
    return np.concatenate(features, axis=1), wanted


def _classifier(name: Learner) -> Any:
    """Build a classifier that first imputes and flags missing numbers and standardises all
    features.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.tree import DecisionTreeClassifier

    return _preprocess(
        {
            "logistic_regression": LogisticRegression(max_iter=1000),
            "decision_tree": DecisionTreeClassifier(random_state=0),
            "random_forest": RandomForestClassifier(random_state=0),
            "nearest_neighbours": KNeighborsClassifier(),
        }[name]
    )


def _regressor(name: Learner) -> Any:
    """Build a regressor with the preprocessing of ``_classifier``."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.tree import DecisionTreeRegressor

    return _preprocess(
        {
            "logistic_regression": Ridge(),
            "decision_tree": DecisionTreeRegressor(random_state=0),
            "random_forest": RandomForestRegressor(random_state=0),
            "nearest_neighbours": KNeighborsRegressor(),
        }[name]
    )


def _preprocess(learner: Any) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    filled = SimpleImputer(add_indicator=True, keep_empty_features=True)
    return make_pipeline(filled, StandardScaler(), learner)


def _constant() -> Any:
    """Build a classifier that always predicts the most common value."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier()
