"""Measures the Wasserstein distance between samples and data, for points."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from genjax import checks
from genjax.checks import Component
from genjax.data.dataset import Spec
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Model, Subject
from genjax.families.diffusion.diffusion import Diffusion
from genjax.samplers import Adaptive, Euler, Sampler, Walk


@checks.frozen
class TransportDistance(Evaluator):
    """Measures the squared 2-Wasserstein distance of a diffusion's samples from the data, for
    several solvers.

    Numbers: ``w2_squared_<solver>``, such as ``w2_squared_euler_1``: the least mean squared
    distance over all one-to-one pairings of samples and data, in the units of the data. For two
    draws from one distribution it is above 0 and falls with their number. Pairing 3,000 takes 5 to
    15 s, 10,000 about a minute on one core.

    Attributes:
      solvers: solvers that draw the samples, from the same noise.
      samples: number of samples per solver, and of data points.
      split: split that samples are compared with.
    """

    judges: ClassVar[tuple[type, ...]] = (Diffusion,)

    solvers: tuple[Sampler, ...] = (Euler(1), Adaptive())
    samples: int = 2_000
    split: str = "test"
    while_training: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.some(self, "solvers")
        checks.at_least(self, 1, "samples")
        if len(set(map(name_solver, self.solvers))) < len(self.solvers):
            raise UserError(
                "solvers must differ in name or number of steps, which name their results",
                "solvers",
            )

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if spec.entry != "points":
            raise UserError(f"TransportDistance needs points, but the data are {spec.entry}")

    def __call__(self, subject: Subject) -> Findings:
        codec, sampler = subject.model.codec, subject.model.family.sampler
        data = codec.decode(subject.take_examples(self.samples, self.split)["points"])
        if len(data) < self.samples:
            raise UserError(
                f"samples must be <= {len(data):,} ({self.split} points), got {self.samples:,}",
                "samples",
            )
        numbers = {}
        for solver in self.solvers:
            drawn = subject.draw_samples_with(
                dataclasses.replace(sampler, solver=solver), self.samples
            )
            if not np.isfinite(drawn).all():
                raise UserError(
                    f"samples by {solver} are not finite: give it more steps", "solvers"
                )
            numbers[f"w2_squared_{name_solver(solver)}"] = compute_squared_w2(
                codec.decode(drawn), data
            )
        return Findings(
            numbers,
            {},
            f"{self.samples:,} samples by {', '.join(map(str, self.solvers))} and as many points "
            f"of {self.split}, "
            "exact pairing",
        )


def name_solver(solver: Sampler) -> str:
    """Return the name of a solver in results."""
    steps = f"_{solver.steps}" if isinstance(solver, Walk) else ""
    return type(solver).__name__.lower() + steps


def compute_squared_w2(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the least mean squared distance over all one-to-one pairings of points [N, D] and [N,
    D].
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    cost = np.square(a).sum(-1)[:, None] + np.square(b).sum(-1)[None] - 2 * a @ b.T
    return float(np.maximum(cost[linear_sum_assignment(cost)], 0).mean())
