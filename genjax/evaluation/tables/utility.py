"""Whether samples of a table can be in for it: a classifier that learns from them, judged on
real rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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

Learner = Literal["logistic_regression", "decision_tree", "random_forest", "nearest_neighbours"]


@checks.frozen
class TrainOnSynthetic(Evaluator):
    """Train on synthetic, test on real (Esteban et al., arXiv 1706.02633): what samples are worth
    to learn from.

    scikit-learn's classifiers learn the table's target from as many samples as there are training
    rows, and from the training rows themselves; both are tested on the judged split.
    ``tstr_<learner>`` and ``trtr_<learner>`` are the two accuracies, the first a mean over
    ``draws`` sets of samples; ``tstr_accuracy`` and ``trtr_accuracy`` are their means over the
    learners, ``tstr_error`` the standard error of the first over the sets, and ``tstr_gap`` how
    much lower it is, in percentage points. Rows whose target is missing are left out.

    Attributes:
      learners: "logistic_regression", "decision_tree", "random_forest" or "nearest_neighbours",
        each with the hyper-parameters that scikit-learn gives it.
      draws: sets of samples.
      limit: training rows, at most, spread evenly, and samples as many.
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
        real = self._measure_accuracies(subject, train, test)
        found = []
        for number in range(self.draws):
            another = dataclasses.replace(
                subject, key=jax.random.fold_in(subject.key, number), made={}
            )
            found.append(self._measure_accuracies(subject, sample_columns(another, rows), test))
        synthetic = np.array(found)  # [draws, learners]
        overall = synthetic.mean(1)
        numbers = {
            "tstr_accuracy": float(overall.mean()),
            "tstr_error": float(overall.std(ddof=1) / np.sqrt(self.draws)),
            "trtr_accuracy": float(np.mean(real)),
            "tstr_gap": float(100 * (np.mean(real) - overall.mean())),
        }
        for i, name in enumerate(self.learners):
            numbers |= {
                f"tstr_{name}": float(synthetic[:, i].mean()),
                f"trtr_{name}": float(real[i]),
            }
        return Findings(
            numbers,
            {},
            f"{self.draws} sets of {rows:,} samples by {subject.model.family.sampler}, {rows:,} "
            "training rows, "
            f"tested on {subject.split}",
        )

    def _measure_accuracies(self, subject: Subject, train: Columns, test: Columns) -> list[float]:
        """Of each learner."""
        codec: Component = subject.model.codec
        return [accuracy(codec, name, train, test) for name in self.learners]


def accuracy(codec: Component, learner: Learner, train: Columns, test: Columns) -> float:
    """The share of test rows whose target a classifier trained on ``train`` gets right.

    Raises:
      UserError: the table has no target, or one of numbers.
    """
    (x, y), (seen, wanted) = (split_target(codec, columns) for columns in (train, test))
    if not len(y) or not len(wanted):
        raise UserError(f"no row has a value in the target column {codec.target!r}")
    model = _constant() if len(np.unique(y)) < 2 else _learner(learner)
    return float((model.fit(x, y).predict(seen) == wanted).mean())


def split_target(codec: Component, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Features float64 [N, F], NaN where a number is missing, and targets [N] of the rows that have
    one.

    Raises:
      UserError: the table has no target, or one of numbers.
    """
    target = {column.name: column for column in codec.categories}.get(codec.target)
    if target is None:
        numbers = codec.target is not None
        what = (
            f"the target {codec.target!r} holds numbers; list it in categorical"
            if numbers
            else "there is none"
        )
        raise UserError(f"TrainOnSynthetic needs a target column of categories, but {what}")
    known = np.array([value is not None for value in columns[target.name]])
    features = [columns[column.name][known, None] for column in codec.numbers]
    for column in codec.categories:
        if column.name != target.name:
            features.append(np.eye(column.size)[column.encode(columns[column.name][known])])
    return np.concatenate(features, axis=1), target.encode(columns[target.name][known])


def _learner(name: Learner) -> Any:
    """A classifier after missing numbers are filled in and marked, and all are standardised, by the
    rows it learns from.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    classifier = {
        "logistic_regression": LogisticRegression(max_iter=1000),
        "decision_tree": DecisionTreeClassifier(random_state=0),
        "random_forest": RandomForestClassifier(random_state=0),
        "nearest_neighbours": KNeighborsClassifier(),
    }[name]
    filled = SimpleImputer(add_indicator=True, keep_empty_features=True)
    return make_pipeline(filled, StandardScaler(), classifier)


def _constant() -> Any:
    """For samples of a single class, which are not lesson."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier()
