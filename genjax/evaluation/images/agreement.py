"""Measures whether samples of a class-conditional model have the requested label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.drawing import cycle_labels
from genjax.evaluation.images.bias import TICKED, count_classes, sample_classes
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import TextConditional, is_conditional, require_samples

FOUND = 0.1  # of an even share of the samples; a good classifier makes fewer mistakes
WRITTEN = 12  # up to this many classes, the picture shows each share as a number


@checks.frozen
class LabelAgreement(Evaluator):
    """Measures the share of samples in which a classifier recognises the requested label, as Odena
    et al. did with Inception (arXiv 1610.09585).

    Numbers: ``label_agreement``, 1 / K by chance and at best the classifier's own accuracy;
    ``classes_found``, the number of classes recognised in at least a tenth of an even share (N / K
    of N samples), whatever was requested.

    Attributes:
      classifier: run directory of a classifier of the classes that the model draws.
      samples: number of samples, which take all labels in turn.
    """

    images_only: ClassVar[bool] = True

    classifier: str
    samples: int = 1_000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "samples")

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.classifier,)

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        classes = check_labels("LabelAgreement", family, spec, self.classifier, others)
        if self.samples < classes:
            raise UserError(
                f"samples must be >= {classes:,} (labels), got {self.samples:,}", "samples"
            )

    def __call__(self, subject: Subject) -> Findings:
        classes = subject.model.spec.classes
        assert classes is not None, "a conditional model's data have labels"
        asked = cycle_labels(self.samples, classes)
        table = confusion(asked, sample_classes(subject, self.classifier, self.samples), classes)
        agreement = float(np.trace(table) / len(asked))
        found = int((table.sum(0) >= FOUND * len(asked) / classes).sum())
        return Findings(
            {"label_agreement": agreement, "classes_found": found},
            {
                "asked_and_drawn": _picture(
                    table, f"{agreement:.1%} as requested, {found} of {classes} classes found"
                )
            },
            f"{len(asked):,} samples by {subject.model.family.sampler}, clipped to [-1, 1], asked "
            "for "
            f"{len(np.unique(asked)):,} of {classes:,} labels in turn; classes by the classifier "
            f"{subject.others[self.classifier].origin}; found: at least {FOUND:g} of an even share",
        )


def check_labels(
    evaluator: str, family: Component, spec: Spec, run: str, others: Mapping[str, Model]
) -> int:
    """Check model and classifier, and return the number of labels.

    Raises:
      UserError: the model does not draw samples of all labels in turn, or the classifier has other
          classes.
    """
    require_samples(family, evaluator)
    if not is_conditional(family):
        raise UserError(
            f"{evaluator} needs a class-conditional model (family.conditional), which this "
            f"{type(family).__name__} is not"
        )
    if isinstance(family, TextConditional) and family.text is not None:
        raise UserError(
            f"{evaluator} needs a model that is conditional on labels alone, but this one needs "
            "a text with each label"
        )
    if spec.classes is None:
        raise UserError(f"{evaluator} needs labels, but the data have none")
    if family.sampler.label is not None:
        raise UserError(
            f"sampler.label must be None for {evaluator}, which needs all labels, got "
            f"{family.sampler.label}",
            "sampler.label",
        )
    classes = count_classes(evaluator, run, others)
    if classes is not None and classes != spec.classes:
        raise UserError(
            f"the classifier {run} has {classes} classes, but the data have {spec.classes} labels"
        )
    return spec.classes


def confusion(asked: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Count samples by requested label (row) and recognised class (column), [K, K], from labels [N]
    each.
    """
    return np.bincount(asked * classes + found, minlength=classes**2).reshape(classes, classes)


def _picture(table: np.ndarray, title: str) -> np.ndarray:
    """Draw the shares of each row of a confusion matrix [K, K]."""
    classes = len(table)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    side = float(np.clip(0.45 * classes + 2, 4.5, 9))
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, format="{x:.0%}", label="of the samples of a label")
    if classes <= TICKED:
        axes.set(xticks=range(classes), yticks=range(classes))
    if classes <= WRITTEN:
        for row, column in zip(*np.nonzero(share), strict=True):
            value = share[row, column]
            colour = "white" if value > 0.6 else "black"
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=8,
            )
    axes.set(xlabel="class by the classifier", ylabel="requested label")
    axes.set_title(title, fontsize=10)
    return figure_pixels(figure)
