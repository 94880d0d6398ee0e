"""Compares the metrics of a model on training examples with those on held-out ones."""

from __future__ import annotations

import jax

from genjax import checks
from genjax.checks import Component
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.family import Batch, Metrics, State


@checks.frozen
class GeneralisationGap(Evaluator):
    """Compares the family's own metrics on training examples, without augmentation, with those on
    as many held-out ones.

    Attributes:
      limit: maximum number of examples of each split, evenly spaced.

    ``gap_...`` of a metric is its held-out value minus that on training examples.
    """

    limit: int = 10_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "limit")

    def __call__(self, subject: Subject) -> Findings:
        if subject.split == "train":
            return Findings(
                remarks=("the generalisation gap needs a split that was not trained on",)
            )
        count = min(self.limit, len(subject.splits["train"]), len(subject.splits[subject.split]))
        train, held_out = (
            subject.compute_metrics(_evaluate, split=s, limit=count)
            for s in ("train", subject.split)
        )
        gaps = {f"gap_{name}": held_out[name] - train[name] for name in train}
        return Findings(
            {"train_loss": train["loss"]} | gaps,
            protocol=f"{count:,} examples each of train and {subject.split}, the same draws",
        )


def _evaluate(family: Component, state: State, batch: Batch, key: jax.Array) -> Metrics:
    return family.evaluate(state, batch, key)
