"""Measures the KL divergence between histograms of data and samples in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.checks import Component
from genjax.data.charts import figure_pixels, new_figure
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.diffusion import Diffusion
from genjax.families.diffusion.flow_map import FlowMap
from genjax.samplers.options import set_steps

EMPTY = 1e-8  # probability added to every bin, so that an empty one is not infinitely wrong


@checks.frozen
class HistogramKL(Evaluator):
    """Measures KL(data || samples) of histograms in the plane, for several numbers of steps.

    Numbers: ``kl_at_<n>_steps``, in nats. Two draws from one distribution on K bins have about
    K / 2 (1 / N + 1 / M), with N samples and M data points. A bin that only the data reach costs
    its probability times log(probability / 1e-8): with few samples that is most of the result.

    Attributes:
      steps: numbers of steps, increasing.
      bins: number of bins along each axis.
      limit: the histogram covers [-limit, limit]^2, in the units of the data; points outside do not
        count.
      samples: number of samples for each number of steps, from the same noise.
      split: split that samples are compared with, whole.
    """

    judges: ClassVar[tuple[type, ...]] = (Diffusion, FlowMap)

    steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    bins: int = 50
    limit: float = 5.0
    samples: int = 100_000
    split: str = "test"
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise UserError(f"steps must be increasing numbers >= 1, got {self.steps}", "steps")
        checks.between(self, 1, 1000, "bins")
        checks.above(self, 0, "limit")
        checks.at_least(self, 1, "samples")

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if spec.entry != "points" or tuple(spec.shape) != (2,):
            raise UserError(
                f"HistogramKL needs points of the plane, but the data are {spec.entry} of shape "
                f"{list(spec.shape)}"
            )
        for steps in self.steps:
            set_steps(family.sampler, steps)

    def __call__(self, subject: Subject) -> Findings:
        codec, sampler = subject.model.codec, subject.model.family.sampler
        count = len(subject.splits[self.split])
        data = codec.decode(subject.take_examples(count, self.split)["points"])
        drawn = {
            steps: codec.decode(subject.draw_samples_with(set_steps(sampler, steps), self.samples))
            for steps in self.steps
        }
        true = self.count(data)
        made = {steps: self.count(points) for steps, points in drawn.items()}
        numbers = {f"kl_at_{steps}_steps": compute_kl(true, made[steps]) for steps in made}
        titles = {f"{steps} step{'s' * (steps > 1)}": made[steps] for steps in made}
        return Findings(
            numbers,
            {"histograms": _picture(titles | {"data": true}, self.limit)},
            f"{self.bins}x{self.bins} bins on [-{self.limit:g}, {self.limit:g}]^2, "
            f"{self.samples:,} samples, otherwise by {sampler}, {len(data):,} points of "
            f"{self.split}",
        )

    def count(self, points: np.ndarray) -> np.ndarray:
        """Return the share of the points [N, 2] in each bin [bins, bins] among those inside.

        Raises:
          UserError: no point is inside.
        """
        edges = np.linspace(-self.limit, self.limit, self.bins + 1)
        counts, *_ = np.histogram2d(points[:, 0], points[:, 1], bins=[edges, edges])
        if not counts.sum():
            raise UserError(f"limit must be larger, as no point is within {self.limit}", "limit")
        return counts / counts.sum()


def compute_kl(p: np.ndarray, q: np.ndarray) -> float:
    """Return KL(p || q) in nats of two arrays of probabilities, with 1e-8 added to each."""
    p, q = p + EMPTY, q + EMPTY
    return float(np.sum(p * np.log(p / q)))


def _picture(histograms: Mapping[str, np.ndarray], limit: float) -> np.ndarray:
    """Draw histograms [bins, bins] side by side, in one scale of colours."""
    figure = new_figure(2.2 * len(histograms), 2.5)
    most = 1.5 * max(histograms["data"].max(), 1e-12)
    for axis, (title, shares) in zip(
        figure.subplots(1, len(histograms), squeeze=False)[0], histograms.items(), strict=True
    ):
        around = (-limit, limit, -limit, limit)
        axis.imshow(shares.T, origin="lower", extent=around, vmin=0, vmax=most, cmap="magma")
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure_pixels(figure)
