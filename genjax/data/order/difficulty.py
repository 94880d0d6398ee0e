"""How difficult an example is: the scores by which ``ByDifficulty`` orders the training
examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from genjax import checks
from genjax.data.dataset import Batch
from genjax.errors import UserError


class Score(Protocol):
    """Larger is more difficult.

    Frozen dataclasses, as written in configs; who inherits needs ``__call__`` alone.
    """

    @property
    def runs(self) -> tuple[str, ...]:
        """Directories of the runs whose losses it needs; none by default."""
        return ()

    def __call__(self, batch: Batch, *losses: np.ndarray) -> np.ndarray:
        """The scores [B] of a batch on the host.

        Args:
          batch: as a split gives it.
          losses: of each example [B] float32 under each of ``runs``.
        """
        ...


@dataclass(frozen=True)
class TextLength(Score):
    """Tokens that are predicted (``loss_mask``): long is difficult (Platanios et al., arXiv
    1903.09848, 4.1).
    """

    def __call__(self, batch: Batch, *losses: np.ndarray) -> np.ndarray:
        if "loss_mask" not in batch:
            raise UserError(
                "TextLength counts the tokens of a text, and these examples have no loss_mask"
            )
        return batch["loss_mask"].sum(1)


@dataclass(frozen=True)
class ReferenceLoss(Score):
    """The loss under another run of the same data: what that one finds difficult (Hacohen &
    Weinshall, 1904.03626).

    Attributes:
      run: its directory; "runs/NAME" with NAME that of a config is trained first where it is
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
    """What a function of one's own says.

    Attributes:
      function: of a batch of arrays [B, ...] by name, gives a number for each example [B]; defined
        in the config or a module, so that a later run finds it. It should depend on each example
        alone, not on those next to it.
    """

    function: Callable[[Batch], np.ndarray]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UserError(
                f"ByFunction holds a function from a config file, not {self.function!r}"
            )

    def __call__(self, batch: Batch, *losses: np.ndarray) -> np.ndarray:
        return self.function(batch)
