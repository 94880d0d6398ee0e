"""Finds the largest Lyapunov exponent from trajectories alone, without derivatives."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.evaluation.simulation.exponents import follow_neighbours
from genjax.evaluation.simulation.truth import (
    get_codec,
    get_system,
    integrate_on,
    roll_out,
    take_starts,
)
from genjax.families.diffusion.forecast import Forecast


@checks.frozen
class NeighbourDivergence(Evaluator):
    """Measures how fast neighbouring states of roll-outs part (Rosenstein et al., Physica D 65,
    1993): a check of ``Lyapunov`` that needs no derivatives of the model's steps.

    Numbers: ``rosenstein``, the slope of the mean logarithm of their distance, the largest exponent
    per unit of time; ``rosenstein_true``, that of trajectories of the equation from the same
    starts. Both are biased alike where neighbours begin far apart, as in few trajectories.

    Attributes:
      trajectories: roll-outs, from starts in the evaluated split.
      length: states of each.
      steps: first and last step of the line that is fitted: after the neighbours have turned to the
        direction of growth, and before they are as far apart as any two states.
      apart: steps between neighbours of one trajectory, at least about one turn.
      warm_up: states that are dropped at the start of each.
    """

    judges: ClassVar[tuple[type, ...]] = (Forecast,)

    trajectories: int = 32
    length: int = 600
    steps: tuple[int, int] = (10, 50)
    apart: int = 20
    warm_up: int = 50
    while_training: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "trajectories", "apart")
        checks.at_least(self, 0, "warm_up")
        first, last = self.steps
        if not 0 <= first < last < self.length - self.warm_up - 1:
            raise UserError(
                f"steps must rise from at least 0 to less than {self.length - self.warm_up - 1} "
                f"(length - warm_up - 1), got {self.steps}",
                "steps",
            )

    def __call__(self, subject: Subject) -> Findings:
        codec = get_codec(subject)
        get_system(subject, "NeighbourDivergence")
        given = take_starts(subject, self.trajectories)
        scale = np.array(codec.scale)
        numbers = {}
        for suffix, states in (
            ("", roll_out(subject, given, self.length)),
            ("_true", integrate_on(codec, given, self.length)),
        ):
            flat = (states / scale).reshape(len(states), self.length, -1)[:, self.warm_up :]
            finite = flat[np.isfinite(flat).all((1, 2))]
            numbers[f"rosenstein{suffix}"] = (
                self.fit_slope(finite) / codec.interval if len(finite) else float("nan")
            )
        first, last = self.steps
        return Findings(
            numbers,
            {},
            f"{len(given)} trajectories of {subject.split}, {self.length - self.warm_up} states at "
            f"steps of {codec.interval:g}, nearest neighbours at least {self.apart} steps apart, a "
            f"line through steps {first} to {last}",
        )

    def fit_slope(self, states: np.ndarray) -> float:
        """Return the exponent per step of trajectories [N, L, D]."""
        first, last = self.steps
        logs = follow_neighbours(states, last, self.apart)
        return float(np.polyfit(np.arange(first, last + 1), logs[first:], 1)[0])
