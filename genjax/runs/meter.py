"""Metrics between the compiled step and a row: packed for a single fetch, averaged on the host."""

from __future__ import annotations

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from genjax.family import Metrics
from genjax.serial.json_text import Json


class PackedMetrics(flax.struct.PyTreeNode):
    """The metrics of one or several steps in one array, because fetching many scalars would take
    longer than a small step.
    """

    pairs: jax.Array  # [..., M, 2]: sum and weight
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, metrics: Metrics) -> PackedMetrics:
        names = tuple(sorted(metrics))
        return cls(
            jnp.stack([jnp.stack([*map(jnp.float32, metrics[name])]) for name in names]), names
        )


class Meter:
    """Running means of the metrics since the last row, on the host, kept in every checkpoint."""

    def __init__(self, stored: dict[str, Json] | None = None) -> None:
        stored = stored or {"pairs": {}, "non_finite": 0}
        self.pairs: dict[str, list[float]] = {
            name: list(pair) for name, pair in stored["pairs"].items()
        }
        self.non_finite: int = stored["non_finite"]  # consecutive bad steps up to the last one

    def add(self, names: tuple[str, ...], pairs: np.ndarray) -> list[int]:
        """Add the pairs [K, M, 2] of K steps; values that are not finite only count for the alarm.

        Returns:
          For each step the number of consecutive steps up to it that were not finite.
        """
        finite = np.isfinite(pairs).all(axis=-1)  # [K, M]
        streaks = []
        for good in finite.all(axis=-1).tolist():
            self.non_finite = 0 if good else self.non_finite + 1
            streaks.append(self.non_finite)
        sums = np.where(finite[..., None], pairs, 0).sum(axis=0).tolist()
        for name, (total, weight), last in zip(names, sums, pairs[-1].tolist(), strict=True):
            if name.endswith("learning_rate"):
                self.pairs[name] = last  # only of the last step
            else:
                old = self.pairs.get(name, (0.0, 0.0))
                self.pairs[name] = [old[0] + total, old[1] + weight]
        return streaks

    def take_means(self) -> dict[str, float]:
        """Return the means and reset the meter; ``loss`` is NaN if no step was finite."""
        means = {name: s / w if w else math.nan for name, (s, w) in self.pairs.items()}
        self.pairs = {}
        return means

    def to_json(self) -> dict[str, Json]:
        """Return the JSON from which ``Meter`` can be restored."""
        return {"pairs": self.pairs, "non_finite": self.non_finite}
