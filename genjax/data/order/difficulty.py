"""Scores of difficulty, by which ``ByDifficulty`` orders the training examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from genjax import checks
from genjax.data.dataset import Batch
from genjax.errors import UserError


class Score(Protocol):
    """Base class of scores; larger means more difficult.

    Subclasses are frozen dataclasses, as written in configs, and only need ``__call__``.
    """

    @property
    def runs(self) -> tuple[str, ...]:
        """Directories of the runs whose losses the score needs; none by default."""
        return ()

    def __call__(self, batch: Batch, *losses: np.ndarray) -> np.ndarray:
        """Return the scores [B] of a batch on the host.

        Args:
          batch: batch of a split.
          losses: losses of the examples [B] float32 under each of ``runs``.
        """
        ...


@dataclass(frozen=True)
class TextLength(Score):
    """Scores a text by its number of predicted tokens (``loss_mask``): long texts are difficult
    (Platanios et al., arXiv 1903.09848, 4.1).
    """

    def __call__(self, batch: Batch, *losses: np.ndarray) -> np.ndarray:
        if "loss_mask" not in batch:
            raise UserError(
                "TextLength needs a batch with loss_mask, the mask of predicted tokens", "score"
            )
        return batch["loss_mask"].sum(1)


@dataclass(frozen=True)
class ReferenceLoss(Score):
    """Scores an example by its loss under another run on the same data (Hacohen & Weinshall, arXiv
    1904.03626).

    Attributes:
      run: directory of that run; "runs/NAME" with the name of a config is trained first if it is
        missing.
    """

    run: str

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.run,)

    def __call__(self, batch: Batch, *losses: np.ndarray) -> np.ndarray:
        return losses[0]


@checks.frozen
class ByFunction(Score):
    """Scores examples by the user's own function.

    Attributes:
      function: function from a batch of arrays [B, ...] by name to scores [B]; it must be defined
        in the config or in a module, so that a later run finds it. The score of an example should
        not depend on the rest of the batch.
    """

    function: Callable[[Batch], np.ndarray]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UserError(
                f"ByFunction.function must be a function from a config file, got {self.function!r}",
                "function",
            )

    def __call__(self, batch: Batch, *losses: np.ndarray) -> np.ndarray:
        return self.function(batch)
