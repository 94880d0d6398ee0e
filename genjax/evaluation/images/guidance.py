"""Measures what classifier-free guidance gains and costs: label agreement and diversity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure, show_percents
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.drawing import cycle_labels
from genjax.evaluation.features.distances import mean_pairwise_distance
from genjax.evaluation.features.features import feature_space
from genjax.evaluation.features.predictions import class_probabilities
from genjax.evaluation.images.agreement import check_labels
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.autoregressive.code_prior import CodePrior
from genjax.families.autoregressive.next_scale import NextScale
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.diffusion.latent import LatentDiffusion


@checks.frozen
class GuidanceCurve(Evaluator):
    """Measures label agreement and diversity at several guidance scales (Ho & Salimans, arXiv
    2207.12598).

    Numbers: ``agreement_at_<scale>``, the share of samples in which a classifier recognises the
    requested label, and ``diversity_at_<scale>``, the mean Euclidean distance of two samples of one
    label in the classifier's features, averaged over labels. All scales use the same noise.

    Attributes:
      classifier: run directory of a classifier of the classes that the model draws.
      scales: guidance scales, increasing; 0 is the unconditional model, 1 the conditional one.
      samples: number of samples per scale, which take all labels in turn.
    """

    judges: ClassVar[tuple[type, ...]] = (Diffusion, LatentDiffusion, CodePrior, NextScale)
    images_only: ClassVar[bool] = True

    classifier: str
    scales: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    samples: int = 500
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if (
            not self.scales
            or len(set(self.scales)) < len(self.scales)
            or list(self.scales) != sorted(self.scales)
        ):
            raise UserError(
                f"scales must be one or more increasing numbers, got {self.scales}", "scales"
            )
        checks.at_least(self, 0, "scales")
        checks.at_least(self, 2, "samples")

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.classifier,)

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        classes = check_labels("GuidanceCurve", family, spec, self.classifier, others)
        if self.samples < 2 * classes:
            raise UserError(
                f"samples must be >= {2 * classes:,}, two for each label, got {self.samples:,}",
                "samples",
            )
        for scale in self.scales:  # a model without guidance refuses it
            family.check_sampler(dataclasses.replace(family.sampler, guidance_scale=scale))

    def __call__(self, subject: Subject) -> Findings:
        model = subject.model
        classes = model.spec.classes
        assert classes is not None, "a conditional model's data have labels"
        asked, space = cycle_labels(self.samples, classes), feature_space(subject, self.classifier)
        agreement, diversity = [], []
        for scale in self.scales:
            options = dataclasses.replace(model.family.sampler, guidance_scale=scale)
            images = np.clip(subject.draw_samples_with(options, self.samples), -1, 1)
            found = class_probabilities(subject, self.classifier, images).argmax(-1)
            agreement.append(float((found == asked).mean()))
            diversity.append(mean_label_distance(space(images), asked))
        numbers = {
            f"agreement_at_{scale:g}": x for scale, x in zip(self.scales, agreement, strict=True)
        }
        numbers |= {
            f"diversity_at_{scale:g}": x for scale, x in zip(self.scales, diversity, strict=True)
        }
        return Findings(
            numbers,
            {"guidance": _picture(self.scales, agreement, diversity)},
            f"{self.samples:,} samples at each guidance_scale, otherwise by "
            f"{model.family.sampler}, clipped to "
            f"[-1, 1], {len(np.unique(asked)):,} of {classes:,} labels in turn; classes "
            f"and {space.name}",
        )


def mean_label_distance(features: np.ndarray, label: np.ndarray) -> float:
    """Compute the mean Euclidean distance of two rows of features [N, F] with the same label [N],
    averaged over labels with two or more rows.
    """
    groups = [features[label == value] for value in np.unique(label)]
    return float(np.mean([mean_pairwise_distance(group) for group in groups if len(group) > 1]))


def _picture(
    scales: Sequence[float], agreement: Sequence[float], diversity: Sequence[float]
) -> np.ndarray:
    """Draw agreement and diversity over the guidance scale."""
    figure = new_figure(6, 3.8)
    left = figure.add_subplot()
    right = left.twinx()
    sides = (
        (left, agreement, "tab:blue", "o", "label agreement"),
        (right, diversity, "tab:orange", "s", "distance within a label"),
    )
    for axes, values, colour, marker, name in sides:
        axes.plot(scales, values, color=colour, marker=marker)
        axes.set_ylabel(name, color=colour)
        axes.tick_params(axis="y", colors=colour)
    left.set(xlabel="guidance scale", ylim=(-0.03, 1.03))
    show_percents(left.yaxis)
    right.set_ylim(0, 1.05 * max(*diversity, 1e-6))
    return figure_pixels(figure)
