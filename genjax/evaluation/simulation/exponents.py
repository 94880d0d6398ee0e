"""Lyapunov exponents of a map, the dimension that follows from them, and published values.

Exponents: Benettin et al., Meccanica 15 (1980), with QR as in Shimada & Nagashima, Progress of
Theoretical Physics 61 (1979); from trajectories alone: Rosenstein et al., Physica D 65 (1993).
Dimension: Kaplan & Yorke (1979). Published values: Gilpin, arXiv
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


def follow_neighbours(states: np.ndarray, steps: int, apart: int) -> np.ndarray:
    """Follow neighbouring states of trajectories: the mean logarithm of their distance after 0 to
    ``steps`` steps, [steps + 1], whose slope is the largest Lyapunov exponent per step.

    The neighbour of a state is the nearest one of any trajectory, but of its own only those at
    least ``apart`` steps away. Equal states are left out.

    Args:
      states: trajectories [N, L, D], in units that make the columns comparable.
      steps: steps to follow, fewer than L.
      apart: steps between neighbours of one trajectory, at least about one turn.
    """
    from scipy.spatial import cKDTree

    length, size = states.shape[1:]
    kept = length - steps
    points = states[:, :kept].reshape(-1, size).astype(np.float64)
    owner, time = np.divmod(np.arange(len(points)), kept)
    tree, count = cKDTree(points), min(len(points), 2 * apart + 2)
    found = tree.query(points, count)[1].reshape(len(points), count)  # nearest first, itself too
    usable = (owner[found] != owner[:, None]) | (np.abs(time[found] - time[:, None]) >= apart)
    first = usable.argmax(1)
    rows = np.flatnonzero(usable.any(1))
    near = found[rows, first[rows]]
    lags = np.arange(steps + 1)
    one, other = (
        states[owner[i][:, None], time[i][:, None] + lags].astype(np.float64) for i in (rows, near)
    )
    distance = np.sqrt(np.square(one - other).sum(-1))  # [R, steps + 1]
    with np.errstate(divide="ignore"):
        logs = np.where(distance > 0, np.log(distance), np.nan)
    return np.nanmean(logs, 0)


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
