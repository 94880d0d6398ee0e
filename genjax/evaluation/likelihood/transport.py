"""How far samples of points lie from the data: the Wasserstein distance of two empirical
distributions.
"""

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
    """Squared 2-Wasserstein distance of a diffusion's samples from data, by several solvers.

    Numbers: ``w2_squared_<solver>``, such as ``w2_squared_euler_1``: the least mean squared
    distance over all ways to pair as many samples as data, in the units of the data. That of two
    draws of one distribution is above 0 and falls with their number. Pairing 3,000 takes 5 to 15 s,
    10,000 about a minute on one core.

    Attributes:
      solvers: that draw the samples, from the same noise.
      samples: that each draws, and as many data.
      split: that the samples are compared with.
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
                "TransportDistance.solvers have different names or numbers of steps, so do their "
                "results"
            )

    def check(self, family: Component, spec: Spec, others: Mapping[str, Model]) -> None:
        super().check(family, spec, others)
        if spec.entry != "points":
            raise UserError(f"TransportDistance is of points, but the data are {spec.entry}")

    def __call__(self, subject: Subject) -> Findings:
        codec, sampler = subject.model.codec, subject.model.family.sampler
        data = codec.decode(subject.take_examples(self.samples, self.split)["points"])
        if len(data) < self.samples:
            raise UserError(
                f"TransportDistance compares {self.samples:,} points, but {self.split} has "
                f"{len(data):,}"
            )
        numbers = {}
        for solver in self.solvers:
            drawn = subject.draw_samples_with(
                dataclasses.replace(sampler, solver=solver), self.samples
            )
            if not np.isfinite(drawn).all():
                raise UserError(
                    f"TransportDistance: samples by {solver} are not finite; give it more steps"
                )
            numbers[f"w2_squared_{name_solver(solver)}"] = squared_w2(codec.decode(drawn), data)
        return Findings(
            numbers,
            {},
            f"{self.samples:,} samples by {', '.join(map(str, self.solvers))} and as many points "
            f"of {self.split}, "
            "exact pairing",
        )


def name_solver(solver: Sampler) -> str:
    """Return the solver in the name of a number."""
    steps = f"_{solver.steps}" if isinstance(solver, Walk) else ""
    return type(solver).__name__.lower() + steps


def squared_w2(a: np.ndarray, b: np.ndarray) -> float:
    """Return least mean squared distance over all pairings of points [N, D] with points [N, D]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cost = np.square(a).sum(-1)[:, None] + np.square(b).sum(-1)[None] - 2 * a @ b.T
    return float(np.maximum(cost[linear_sum_assignment(cost)], 0).mean())
