"""Scores the samples of an image model with a reward function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.drawing import cycle_labels
from genjax.evaluation.drawn import Drawn
from genjax.evaluation.features.drawn import sample_images
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.image_rewards import score_images
from genjax.family import is_conditional, require_samples
from genjax.samplers.options import number_label


@checks.frozen
class RewardOfImages(Evaluator):
    """Measures the mean reward of samples, and its standard error, ``NAME_error``.

    Samples are clipped to [-1, 1]; a class-conditional model draws all labels in turn, or
    ``sampler.label``.

    Attributes:
      reward: function of images [N, H, W, C] in [-1, 1] and labels [N], or None for an
          unconditional model, that returns a number for each image.
      name: name of the number.
      samples: number of samples.
    """

    images_only: ClassVar[bool] = True

    reward: Component
    name: str = "reward"
    samples: int = 1_000

    def __post_init__(self) -> None:
        if not callable(self.reward):
            raise UserError(
                f"reward must be a function of images and labels, got {self.reward!r}", "reward"
            )
        checks.at_least(self, 2, "samples")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        require_samples(family, "RewardOfImages")

    def __call__(self, subject: Subject) -> Findings:
        model = subject.model
        labels = requested_labels(model.family, model.spec, model.family.sampler, self.samples)
        images = sample_images(subject, self.samples)
        rewards = score_images(self.reward, images, labels).astype(np.float64)
        error = rewards.std(ddof=1) / math.sqrt(len(rewards))
        return Findings(
            {self.name: float(rewards.mean()), f"{self.name}_error": float(error)},
            protocol=f"{len(rewards):,} samples by {subject.model.family.sampler}, clipped to [-1, "
            "1]",
            drawn=Drawn(images, scores={self.name: rewards}),
        )


def requested_labels(
    family: Component, spec: Spec, options: Component, count: int
) -> np.ndarray | None:
    """Return the requested labels of the first ``count`` samples, int64 [N]; None without labels.

    Args:
      family: family that draws the samples.
      spec: spec of its training data.
      options: sampling options.
      count: number of samples.
    """
    if spec.classes is None or not is_conditional(family):
        return None
    if options.label is None:
        return cycle_labels(count, spec.classes)
    return np.full(count, number_label(options.label, spec.class_names, spec.classes))
