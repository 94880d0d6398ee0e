"""How fast a curriculum widens: the share of the training examples, the easiest, that may be drawn
at a step.

Competence: Platanios et al., arXiv 1903.09848. Stairs: Bengio et al., Curriculum Learning, ICML
2009.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from genjax import checks
from genjax.errors import UserError


class Pacing(Protocol):
    """A share that never falls; frozen dataclasses, as written in configs."""

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """The share in (0, 1], float64 of the shape of ``step`` [...], the first of which is 0.

        Of operations alone that are exact to the last bit everywhere, so that the order is the same
        on every machine.
        """
        ...


@checks.frozen
class StepPacing:
    """Stairs of equal height and length.

    Attributes:
      start: the share at step 0.
      steps: from which on the share is 1.
      stairs: rises up to there; with 1 the share is ``start`` until all at once it is 1.
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
    """A straight line.

    Attributes:
      start: the share at step 0.
      steps: from which on the share is 1.
    """

    start: float = 0.1
    steps: int = 1000

    def __post_init__(self) -> None:
        _check(self.start, self.steps)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        return np.where(step < self.steps, self.start + (1 - self.start) * (step / self.steps), 1.0)


@checks.frozen
class RootPacing:
    """sqrt(start^2 + (1 - start^2) step / steps): new examples come more slowly the more there are
    already.

    Attributes:
      start: the share at step 0.
      steps: from which on the share is 1.
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
        raise UserError(f"pacing.start is a share above 0 and at most 1, not {start}")
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"pacing.steps is a whole number of at least 1, not {steps}")
