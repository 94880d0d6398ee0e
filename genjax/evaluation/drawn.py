"""Samples that evaluators looked at, as they are kept of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Drawn:
    """Samples that evaluators looked at.

    Attributes:
      samples: in model space, [N, ...]; None of texts that are given as such.
      prompts: that texts answer, [N].
      texts: the responses, [N].
      scores: of the samples one by one, [N], by name.
    """

    samples: np.ndarray | None = None
    prompts: Sequence[str] = ()
    texts: Sequence[str] = ()
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
