"""Holds samples that evaluators looked at, to be kept with an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Drawn:
    """Samples that evaluators looked at.

    Attributes:
      samples: samples in model space, [N, ...]; None for texts.
      prompts: prompts that the texts answer, [N].
      texts: responses, [N].
      scores: scores of each sample, [N], by name.
    """

    samples: np.ndarray | None = None
    prompts: Sequence[str] = ()
    texts: Sequence[str] = ()
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
