"""Compares the Lyapunov exponents of a forecast with its equation's and with published ones."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.data.simulation.codec import TrajectoryCodec
from genjax.data.simulation.systems import System, advance
from genjax.errors import UserError
from genjax.evaluation.judge import Evaluator, Findings, Subject
from genjax.evaluation.simulation.exponents import (
    CURE,
    compute_kaplan_yorke,
    find_exponents,
    read_reference,
)
from genjax.evaluation.simulation.truth import get_codec, recover_states, take_starts
from genjax.families.diffusion.diffusion import Denoising
from genjax.families.diffusion.forecast import Forecast
from genjax.family import State


@checks.frozen
class Lyapunov(Evaluator):
    """Finds the Lyapunov exponents of a forecast's own dynamics, by the derivative of its steps.

    Numbers: ``lyapunov``, the largest exponent per unit of time, ``kaplan_yorke``, the dimension,
    and ``exponent_sum``, the rate at which volumes grow, of all exponents found. The same with
    ``_true`` are of the integrated equation by the same estimator, from the same starts; those with
    ``_dysts`` are the published ones. A number is left out where it is not defined: the dimension
    if the exponents found have no negative sum.

    Attributes:
      exponents: number of exponents; for a dimension, enough for a negative sum.
      trajectories: number of trajectories, from starts in the evaluated split.
      steps: steps of each, after ``warm_up``.
      warm_up: steps before.
    """

    judges: ClassVar[tuple[type, ...]] = (Forecast,)

    exponents: int = 3
    trajectories: int = 32
    steps: int = 800
    warm_up: int = 100
    while_training: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "exponents", "trajectories", "steps")
        checks.at_least(self, 0, "warm_up")

    def __call__(self, subject: Subject) -> Findings:
        codec, family = get_codec(subject), subject.model.family
        given = take_starts(subject, self.trajectories)
        if self.exponents > given[0].size:
            raise UserError(
                f"exponents must be <= {given[0].size}, the numbers of the given states, got "
                f"{self.exponents}",
                "exponents",
            )
        settings = self.exponents, self.steps, self.warm_up
        compiled = subject.layout.compile_evaluation(_find_of_model, static_argnums=(0, 4, 5, 6, 7))
        own = compiled(family, subject.model.state, subject.key, given, family.sampler, *settings)
        numbers = self._name(np.asarray(own), codec, "")
        remarks: tuple[str, ...] = ()
        if codec.system is not None:
            true = find_of_system(codec, given, subject.key, *settings)
            numbers |= self._name(np.asarray(true), codec, "_true")
            if codec.system.dysts is not None:
                found = read_reference(codec.system.dysts)
                if found is None:
                    remarks = (f"published exponents need dysts: {CURE}",)
                else:
                    numbers["lyapunov_dysts"] = found.lyapunov
                    numbers["kaplan_yorke_dysts"] = found.kaplan_yorke
        protocol = (
            f"{len(given)} trajectories of {subject.split}, {self.steps:,} steps of "
            f"{codec.interval:g} after {self.warm_up}, derivatives of the steps and QR, samples by "
            f"{family.sampler.solver}"
        )
        return Findings(numbers, {}, protocol, remarks)

    def _name(self, found: np.ndarray, codec: TrajectoryCodec, suffix: str) -> dict[str, float]:
        """Name the exponents per step [B, K]; those of diverged trajectories are not averaged."""
        finite = found[np.isfinite(found).all(-1)]
        if not len(finite):
            return {f"lyapunov{suffix}": math.nan}
        mean = finite.mean(0) / codec.interval
        numbers = {f"lyapunov{suffix}": float(mean[0]), f"exponent_sum{suffix}": float(mean.sum())}
        dimension = compute_kaplan_yorke(mean)
        return numbers | ({f"kaplan_yorke{suffix}": dimension} if dimension == dimension else {})


def find_of_system(
    codec: TrajectoryCodec, given: np.ndarray, key: jax.Array, count: int, steps: int, warm_up: int
) -> jax.Array:
    """Find the exponents per step [B, count] of the equation, from given parts [B, ...]."""
    states = recover_states(codec, given)[:, -1]
    count = min(count, math.prod(states.shape[1:]))
    return _find_of_system(codec.system, codec.interval, states, key, count, steps, warm_up)


def _find(
    system: System,
    interval: float,
    states: jax.Array,
    key: jax.Array,
    count: int,
    steps: int,
    warm_up: int,
) -> jax.Array:
    def step(y: jax.Array, key: jax.Array) -> jax.Array:
        return jax.vmap(lambda one: advance(system, one, interval))(y)

    return find_exponents(step, states, key, count, steps, warm_up)


_find_of_system = jax.jit(_find, static_argnums=(0, 1, 4, 5, 6))


def _find_of_model(
    family: Forecast,
    state: State,
    key: jax.Array,
    given: jax.Array,
    options: Denoising,
    count: int,
    steps: int,
    warm_up: int,
) -> jax.Array:
    axis = 1 if given.ndim == 3 else -1

    def step(y: jax.Array, key: jax.Array) -> jax.Array:
        whole = jnp.concatenate([y, family.forecast(state, key, y, options)], axis)
        return jnp.split(whole, [whole.shape[axis] - y.shape[axis]], axis)[1]

    return find_exponents(step, given, key, count, steps, warm_up)
