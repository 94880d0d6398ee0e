"""Measures whether samples can replace a table for CatBoost, in the protocol of TabDDPM."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.data.tables.codec import Columns
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.evaluation.tables.rows import check_table, data_columns, sample_columns
from genjax.family import Family

VALIDATION = 0.2  # share of the training rows that tell CatBoost when to stop


@checks.frozen
class BoostedUtility(Evaluator):
    """Trains CatBoost on samples and tests it on real rows, beside training on real rows, as
    TabDDPM is judged (Kotelnikov et al., arXiv 2209.15421, section 4.2).

    A fifth of the training rows, drawn once, say when to stop; in training on real rows they are
    left out. Samples are as many as the training rows, times ``times``.

    Numbers, of ``tstr_`` for samples and ``trtr_`` for real rows: ``boosted_f1``, the mean of the
    F1 of the classes, as that paper reports, ``boosted_auc`` for two classes, and
    ``boosted_accuracy``; or ``boosted_r2`` if the target is a number. ``tstr_boosted_error`` is the
    standard error of the first over sets of samples.

    Attributes:
      learning_rate: learning rate.
      depth: depth of the trees.
      l2: regularisation of the leaves.
      iterations: most trees.
      draws: sets of samples.
      seeds: trainings for each set, and on real rows.
      times: samples per training row.
    """

    learning_rate: float = 0.1
    depth: int = 5
    l2: float = 3.0
    iterations: int = 2000
    draws: int = 2
    seeds: int = 1
    times: float = 1.0

    def __post_init__(self) -> None:
        checks.above(self, 0, "learning_rate", "l2", "times")
        checks.at_least(self, 1, "depth", "iterations", "draws", "seeds")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_table(type(self).__name__, family, spec)
        import_catboost()

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(remarks=("utility needs a split that was not trained on",))
        codec: Component = subject.model.codec
        train, test = data_columns(subject, "train"), data_columns(subject, subject.split)
        rows = len(next(iter(train.values())))
        rest, valid = split_rows(train)
        held = len(next(iter(valid.values())))
        real = self.fit(codec, rest, valid, test)
        count, found = max(2, round(self.times * rows)), []
        for number in range(self.draws):
            key = jax.random.fold_in(subject.key, number)
            another = dataclasses.replace(subject, key=key, made={})
            found.append(self.fit(codec, sample_columns(another, count), valid, test))
        numbers: dict[str, float] = {}
        for name in real[0]:
            of_sets = [np.mean([one[name] for one in scores]) for scores in found]
            numbers[f"tstr_boosted_{name}"] = float(np.mean(of_sets))
            numbers[f"trtr_boosted_{name}"] = float(np.mean([one[name] for one in real]))
            if "tstr_boosted_error" not in numbers and self.draws > 1:
                spread = np.std(of_sets, ddof=1) / np.sqrt(self.draws)
                numbers["tstr_boosted_error"] = float(spread)
        protocol = (
            f"CatBoost, {self.draws} sets of {count:,} samples by {subject.model.family.sampler}, "
            f"{self.seeds} trainings each; {held:,} training rows say when to stop, "
            f"{rows - held:,} train the real one; tested on {subject.split}"
        )
        return Findings(numbers, {}, protocol)

    def fit(
        self, codec: Component, train: Columns, valid: Columns, test: Columns
    ) -> list[dict[str, float]]:
        """Train on rows with each seed, and score on test rows."""
        parts = [list_features(codec, columns) for columns in (train, valid, test)]
        return [self._score(parts, seed) for seed in range(self.seeds)]

    def _score(
        self, parts: list[tuple[np.ndarray, np.ndarray, list[int]]], seed: int
    ) -> dict[str, float]:
        from sklearn.metrics import f1_score, roc_auc_score

        catboost = import_catboost()
        (x, y, words), (x_valid, y_valid, _), (x_test, y_test, _) = parts
        numeric = y.dtype.kind == "f"
        if not numeric and len(set(y)) < 2:
            guess = np.full(len(y_test), y[0], object)
            f1 = f1_score(y_test, guess, average="macro")
            return {"f1": float(f1), "accuracy": float((guess == y_test).mean()), "auc": 0.5}
        kind = catboost.CatBoostRegressor if numeric else catboost.CatBoostClassifier
        model = kind(
            iterations=self.iterations,
            learning_rate=self.learning_rate,
            depth=self.depth,
            l2_leaf_reg=self.l2,
            eval_metric="RMSE" if numeric else "TotalF1",
            early_stopping_rounds=50,
            random_seed=seed,
            cat_features=words,
            allow_writing_files=False,
            verbose=False,
            thread_count=2,
        )
        seen = np.isin(y_valid, model_classes(y)) if not numeric else np.ones(len(y_valid), bool)
        model.fit(x, y, eval_set=(x_valid[seen], y_valid[seen]))
        if numeric:
            rest = np.square(y_test - model.predict(x_test)).sum()
            return {"r2": float(1 - rest / np.square(y_test - y_test.mean()).sum())}
        shares = model.predict_proba(x_test)
        guess = np.asarray(model.classes_)[shares.argmax(1)]
        found = {
            "f1": float(f1_score(y_test, guess, average="macro")),
            "accuracy": float((guess == y_test).mean()),
        }
        if len(model.classes_) == 2:
            found["auc"] = float(roc_auc_score(y_test == model.classes_[1], shares[:, 1]))
        return found


def split_rows(train: Columns) -> tuple[Columns, Columns]:
    """Split training rows into those to train on and the fifth that says when to stop."""
    rows = len(next(iter(train.values())))
    stops = np.zeros(rows, bool)
    stops[np.random.default_rng(0).permutation(rows)[: max(1, int(VALIDATION * rows))]] = True
    return (
        {name: cells[~stops] for name, cells in train.items()},
        {name: cells[stops] for name, cells in train.items()},
    )


def model_classes(y: np.ndarray) -> np.ndarray:
    """Return the distinct classes of targets [N]."""
    return np.array(sorted(set(y.tolist())), object)


def list_features(codec: Component, columns: Columns) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return features, object [N, F] with text for categories, targets [N], and the places of the
    categories; rows without a target are left out.

    Raises:
      UserError: the table has no target.
    """
    if codec.target is None:
        raise UserError("data.target is needed: BoostedUtility predicts this column", "data.target")
    target = columns[codec.target]
    numeric = target.dtype.kind == "f"
    known = ~np.isnan(target) if numeric else np.array([cell is not None for cell in target])
    features: list[np.ndarray] = []
    words: list[int] = []
    for column in codec.columns:
        if column.name == codec.target:
            continue
        cells = columns[column.name][known]
        if cells.dtype.kind != "f":
            words.append(len(features))
            cells = np.array(["" if cell is None else str(cell) for cell in cells], object)
        features.append(cells.astype(object))
    if not features:
        raise UserError(f"BoostedUtility needs columns other than the target {codec.target!r}")
    wanted = target[known]
    return np.stack(features, 1), wanted if numeric else wanted.astype(str), words


def import_catboost() -> Any:
    """Import CatBoost.

    Raises:
      UserError: it is not installed.
    """
    try:
        import catboost
    except ImportError:
        raise UserError(
            "BoostedUtility needs CatBoost: pip install 'genjax-train[tables]'"
        ) from None
    return catboost
