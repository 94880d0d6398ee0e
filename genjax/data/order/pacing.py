"""Pacings of a curriculum: the fraction of the training examples, the easiest, that may be drawn at
a step.

Competence: Platanios et al., arXiv 1903.09848. Stairs: Bengio et al., Curriculum Learning, ICML
2009.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from genjax import checks
from genjax.errors import UserError


class Pacing(Protocol):
    """A fraction that never decreases; a frozen dataclass, as written in configs."""

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return the fraction in (0, 1], float64, at each ``step`` [...], counted from 0.

        It may only use operations that are exact to the last bit, so that the order is the same on
        every machine.
        """
        ...


@checks.frozen
class StepPacing:
    """Raises the fraction in stairs of equal height and length.

    Attributes:
      start: fraction at step 0.
      steps: step from which the fraction is 1.
      stairs: number of rises; with 1 the fraction jumps from ``start`` to 1.
    """

    start: float = 0.1
    steps: int = 1000
    stairs: int = 4

    def __post_init__(self) -> None:
        _check(self.start, self.steps)
        checks.between(self, 1, self.steps, "stairs")

    def __call__(self, step: np.ndarray) -> np.ndarray:
        risen = np.minimum(np.asarray(step, np.int64) * self.stairs // self.steps, self.stairs)
        return np.where(
            risen == self.stairs, 1.0, self.start + (1 - self.start) * (risen / self.stairs)
        )


@checks.frozen
class LinearPacing:
    """Raises the fraction linearly.

    Attributes:
      start: fraction at step 0.
      steps: step from which the fraction is 1.
    """

    start: float = 0.1
    steps: int = 1000

    def __post_init__(self) -> None:
        _check(self.start, self.steps)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        return np.where(step < self.steps, self.start + (1 - self.start) * (step / self.steps), 1.0)


@checks.frozen
class RootPacing:
    """Raises the fraction as sqrt(start^2 + (1 - start^2) step / steps): fast at first, then
    slower.

    Attributes:
      start: fraction at step 0.
      steps: step from which the fraction is 1.
    """

    start: float = 0.1
    steps: int = 1000

    def __post_init__(self) -> None:
        _check(self.start, self.steps)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        square = self.start * self.start
        return np.where(
            step < self.steps, np.sqrt(square + (1 - square) * (step / self.steps)), 1.0
        )


def _check(start: float, steps: int) -> None:
    if not 0 < start <= 1:
        raise UserError(f"pacing.start must be > 0 and <= 1, got {start}", "start")
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"pacing.steps must be a whole number >= 1, got {steps}", "steps")
