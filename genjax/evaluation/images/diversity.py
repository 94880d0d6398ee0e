"""Measures whether samples are as varied as the data, or the model has collapsed to a few modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.data.dataset import Spec
from genjax.evaluation.features.distances import mean_pairwise_distance
from genjax.evaluation.features.drawn import (
    data_features,
    data_part,
    map_images,
    sample_features,
    sample_images,
)
from genjax.evaluation.features.features import (
    PIXELS,
    check_features,
    feature_space,
    label,
    list_runs,
)
from genjax.evaluation.features.predictions import class_probabilities
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.family import Family, require_samples

COLLAPSED = 0.5  # ratio of distances below which there is a remark


@checks.frozen
class Diversity(Evaluator):
    """Compares the mean distance of two samples with that of two images of the data.

    ``pairwise_...`` is the mean Euclidean distance of two samples, ``pairwise_data_...`` that of
    two reference images and ``diversity_...`` their ratio: 1 for samples as varied as the data, 0
    if all samples are the same; noise raises it above 1. In the features of a classifier's run,
    ``class_entropy_...`` is the entropy, in nats, of the mean predicted class probabilities of the
    samples and ``class_entropy_data_...`` of the reference: its exponential counts classes, so a
    model that misses some has a lower one. Names end in that of the features.

    Attributes:
      features: "pixels", "inception", "inception:FILE", "vit:FOLDER", "dinov2:FOLDER", or the run
        directory of a classifier.
      samples: number of samples.
      reference: split that samples are compared with.
      limit: maximum number of its images, evenly spaced.
      pairs: maximum number of pairs in the mean distances.
    """

    images_only: ClassVar[bool] = True

    features: str = PIXELS
    samples: int = 5_000
    reference: str = "train"
    limit: int = 50_000
    pairs: int = 20_000

    def __post_init__(self) -> None:
        checks.at_least(self, 2, "samples", "limit")
        checks.at_least(self, 1, "pairs")

    def check(self, family: Family, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "Diversity")
        check_features(self.features, spec, others)

    @property
    def runs(self) -> tuple[str, ...]:
        return list_runs(self.features)

    def __call__(self, subject: Subject) -> Findings:
        real = data_features(subject, self.features, self.reference, self.limit)
        fake = sample_features(subject, self.features, self.samples)
        suffix = label(self.features)
        apart, usual = (mean_pairwise_distance(x, self.pairs) for x in (fake, real))
        ratio = apart / max(usual, 1e-12)
        numbers = {
            f"pairwise_{suffix}": apart,
            f"pairwise_data_{suffix}": usual,
            f"diversity_{suffix}": ratio,
        }
        for run in self.runs:
            predict = lambda images, run=run: class_probabilities(subject, run, images)  # noqa: E731
            reference = map_images(predict, data_part(subject, self.reference, self.limit))
            numbers[f"class_entropy_{suffix}"] = class_entropy(
                predict(sample_images(subject, self.samples))
            )
            numbers[f"class_entropy_data_{suffix}"] = class_entropy(reference)
        remarks: tuple[str, ...] = ()
        if ratio < COLLAPSED:
            remarks = (
                f"samples are {ratio:.2f} times as far apart as images of {self.reference} "
                f"({suffix}): the model may "
                "have collapsed to a few modes",
            )
        protocol = (
            f"{feature_space(subject, self.features).name}; {len(fake):,} samples by "
            f"{subject.model.family.sampler}, "
            f"clipped to [-1, 1]; {len(real):,} images of {self.reference}; at most {self.pairs:,} "
            "pairs of each"
        )
        return Findings(numbers, protocol=protocol, remarks=remarks)


def class_entropy(probabilities: np.ndarray) -> float:
    """Compute the entropy, in nats, of the mean of class probabilities [N, K]: 0 for a single
    class, log K for equal shares.
    """
    mean = probabilities.mean(0, dtype=np.float64)
    return float(-(mean * np.log(np.where(mean > 0, mean, 1))).sum())
