"""Metrics on their way from the compiled step to a row: packed for one fetch, averaged on the host."""

from __future__ import annotations

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from genjax.family import Metrics


class Packed(flax.struct.PyTreeNode):
    """The metrics of a step, or of several, in one array: fetching many scalars costs more than a small step."""

    pairs: jax.Array  # [..., M, 2]: sum and weight
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, metrics: Metrics) -> Packed:
        names = tuple(sorted(metrics))
        return cls(jnp.stack([jnp.stack([*map(jnp.float32, metrics[name])]) for name in names]), names)


class Meter:
    """Running means of the metrics since the last row, on the host, kept in every checkpoint."""

    def __init__(self, stored: dict[str, Any] | None = None) -> None:
        stored = stored or {"pairs": {}, "non_finite": 0}
        self.pairs: dict[str, list[float]] = {name: list(pair) for name, pair in stored["pairs"].items()}
        self.non_finite = stored["non_finite"]  # bad steps in a row

    def add(self, names: tuple[str, ...], pairs: np.ndarray) -> None:
        """Add one step's pairs [M, 2]; what is not finite counts for the alarm, not for the means."""
        finite = np.isfinite(pairs).all(axis=-1)
        self.non_finite = 0 if finite.all() else self.non_finite + 1
        for name, (total, weight), good in zip(names, pairs.tolist(), finite, strict=True):
            if name.endswith("learning_rate"):
                self.pairs[name] = [total, weight]  # of this very step
            elif good:
                old = self.pairs.get(name, (0.0, 0.0))
                self.pairs[name] = [old[0] + total, old[1] + weight]

    def means(self) -> dict[str, float]:
        """The means; the meter starts anew."""
        means = {name: s / w if w else math.nan for name, (s, w) in self.pairs.items()}
        self.pairs = {}
        return means | {"loss": means.get("loss", math.nan)}

    def stored(self) -> dict[str, Any]:
        return {"pairs": self.pairs, "non_finite": self.non_finite}
