"""Lyapunov exponents of a map, the dimension that follows from them, and published values.

Exponents: Benettin et al., Meccanica 15 (1980), with QR as in Shimada & Nagashima, Progress of
Theoretical Physics 61 (1979). Dimension: Kaplan & Yorke (1979). Published values: Gilpin, arXiv
2110.05266, in the package dysts.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CURE = "pip install 'genjax-train[simulation]'"

# One step of states [B, ...] with a random key.
Step = Callable[[jax.Array, jax.Array], jax.Array]


class Reference(NamedTuple):
    """Published invariants: the largest exponent per unit of time, and the dimension."""

    lyapunov: float
    kaplan_yorke: float


def find_exponents(
    step: Step, states: jax.Array, key: jax.Array, count: int, steps: int, warm_up: int
) -> jax.Array:
    """Find the largest Lyapunov exponents of a map along its trajectories.

    Tangents are carried along by the derivative of each step and made orthogonal after it. A step
    may be random: its key is fixed while it is differentiated, as for random dynamical systems.

    Args:
      step: the map.
      states: initial states [B, ...].
      key: random key.
      count: number of exponents, at most the numbers of a state.
      steps: steps that are averaged over.
      warm_up: steps before these, in which the tangents turn to their directions.

    Returns:
      Exponents per step [B, count], falling in the mean.
    """
    size = math.prod(states.shape[1:])
    start_key, walk_key = jax.random.split(key)
    start = jnp.linalg.qr(jax.random.normal(start_key, (len(states), size, count)))[0]

    def move(
        carry: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        y, tangents = carry  # [B, ...], [B, D, K]
        y, derivative = jax.linearize(lambda y: step(y, key), y)
        shaped = jnp.moveaxis(tangents, -1, 0).reshape(count, *states.shape)
        moved = jax.vmap(derivative)(shaped).reshape(count, len(states), size)
        tangents, triangle = jnp.linalg.qr(jnp.moveaxis(moved, 0, -1))
        grown = jnp.abs(jnp.diagonal(triangle, axis1=-2, axis2=-1))  # [B, K]
        return (y, tangents), jnp.log(jnp.maximum(grown, 1e-30))

    keys = jax.random.split(walk_key, warm_up + steps)
    return jax.lax.scan(move, (states, start), keys)[1][warm_up:].mean(0)


def compute_kaplan_yorke(exponents: np.ndarray) -> float:
    """Compute the Kaplan-Yorke dimension of exponents [K] in falling order; NaN if their sum is not
    negative, so that more of them are needed.
    """
    total = np.cumsum(exponents)
    if total[-1] >= 0:
        return math.nan
    if total[0] < 0:
        return 0.0
    last = int(np.flatnonzero(total >= 0)[-1])
    return last + 1 + float(total[last] / abs(exponents[last + 1]))


def read_reference(name: str) -> Reference | None:
    """Return the values that dysts carries for a system; None if dysts is not installed."""
    if importlib.util.find_spec("dysts") is None:
        return None
    # Its data alone: its modules import much more.
    file = importlib.resources.files("dysts") / "data" / "chaotic_attractors.json"
    found = json.loads(file.read_text(encoding="utf-8"))[name]
    return Reference(found["maximum_lyapunov_estimated"], found["kaplan_yorke_dimension"])
