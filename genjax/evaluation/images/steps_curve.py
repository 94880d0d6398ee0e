"""Measures how many steps a diffusion or flow map needs: distances from the data over the number of
steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.features import distances
from genjax.evaluation.features.drawn import data_features
from genjax.evaluation.features.features import (
    PIXELS,
    check_features,
    feature_space,
    is_inception,
    label,
    list_runs,
)
from genjax.evaluation.images.quality import SUBSETS
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.diffusion.flow_map import FlowMap
from genjax.families.diffusion.latent import LatentDiffusion
from genjax.samplers.options import set_steps


@checks.frozen
class StepsCurve(Evaluator):
    """Measures the distance of samples from the data for several numbers of steps.

    ``kernel_<features>_at_<n>_steps`` is the unbiased squared MMD of ``SampleQuality`` (arXiv
    1801.01401), and ``frechet_<features>_at_<n>_steps`` the squared Fréchet distance (arXiv
    1706.08500), which is left out unless there are more samples and images than features. On
    Inception's features they are ``kid_at_...`` and ``fid_at_...``. All start from the same noise.
    Steps are not evaluations: ``Heun`` needs 2n - 1 of these.

    Attributes:
      steps: numbers of steps, increasing.
      features: "pixels", "inception", "inception:FILE", "vit:FOLDER", "dinov2:FOLDER", or the run
        directory of a classifier.
      samples: number of samples per number of steps.
      split: split that samples are compared with.
      limit: maximum number of its images, evenly spaced.
      kernel_subset: rows per subset of the kernel distance.
    """

    judges: ClassVar[tuple[type, ...]] = (Diffusion, LatentDiffusion, FlowMap)
    images_only: ClassVar[bool] = True

    steps: tuple[int, ...] = (2, 4, 8, 16, 32)
    features: str = PIXELS
    samples: int = 1_000
    split: str = "train"
    limit: int = 10_000
    kernel_subset: int = 500
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise UserError(f"steps must be increasing numbers >= 1, got {self.steps}", "steps")
        checks.at_least(self, 2, "kernel_subset")
        for name in ("samples", "limit"):
            self._refuse_fewer(getattr(self, name), f"{name} of")

    @property
    def runs(self) -> tuple[str, ...]:
        return list_runs(self.features)

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        check_features(self.features, spec, others)
        for steps in self.steps:  # some solvers need at least two
            set_steps(family.sampler, steps)

    def __call__(self, subject: Subject) -> Findings:
        sampler, space = subject.model.family.sampler, feature_space(subject, self.features)
        real = data_features(subject, self.features, self.split, self.limit)
        self._refuse_fewer(len(real), f"the {self.split} split has")
        names = (
            ("kid", "fid")
            if is_inception(self.features)
            else tuple(f"{name}_{label(self.features)}" for name in ("kernel", "frechet"))
        )
        kernels, errors, frechets = [], [], []
        for steps in self.steps:
            fake = space(
                np.clip(subject.draw_samples_with(set_steps(sampler, steps), self.samples), -1, 1)
            )
            kernel, error = distances.kernel_distance(real, fake, self.kernel_subset, SUBSETS)
            kernels.append(kernel)
            errors.append(error)
            if min(len(real), len(fake)) > real.shape[1]:
                frechets.append(distances.frechet_distance(real, fake))
        numbers = {
            f"{name}_at_{steps}_steps": value
            for name, values in zip(names, (kernels, frechets), strict=True)
            for steps, value in zip(self.steps, values, strict=False)
        }
        return Findings(
            numbers,
            {"steps": _picture(self.steps, kernels, errors, frechets, label(self.features))},
            f"{space.name}; {self.samples:,} samples at each number of steps, otherwise by "
            f"{sampler}, clipped to "
            f"[-1, 1]; {len(real):,} images of {self.split}; kernel (x.y / {real.shape[1]} + 1)^3, "
            f"{SUBSETS} subsets "
            f"of {self.kernel_subset:,}, standard errors up to {max(errors):.2g}",
        )

    def _refuse_fewer(self, count: int, what: str) -> None:
        if count < self.kernel_subset:
            raise UserError(
                f"StepsCurve needs at least kernel_subset = {self.kernel_subset:,} images, but "
                f"{what} {count:,}"
            )


def _picture(
    steps: Sequence[int],
    kernels: Sequence[float],
    errors: Sequence[float],
    frechets: Sequence[float],
    features: str,
) -> np.ndarray:
    """Draw kernel distances with two standard errors, and Fréchet distances if any, over log
    steps.
    """
    figure = new_figure(6, 3.8)
    left = figure.add_subplot()
    left.errorbar(steps, kernels, 2 * np.asarray(errors), color="tab:blue", marker="o", capsize=3)
    left.axhline(0, color="0.7", linewidth=0.8)
    left.set_ylabel(f"kernel distance ({features})", color="tab:blue")
    if frechets:
        right = left.twinx()
        right.plot(steps, frechets, color="tab:orange", marker="s")
        right.set_ylabel(f"Fréchet distance ({features})", color="tab:orange")
        right.set_ylim(bottom=0)
    left.set_xscale("log", base=2)
    left.set_xticks(steps, [str(number) for number in steps])
    left.set_xlabel("steps")
    return figure_pixels(figure)
