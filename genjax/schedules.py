"""Schedules: numbers as functions of the step, for learning rates and loss weights."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError

FLOAT32 = jnp.dtype("float32")


@runtime_checkable
class HasLength(Protocol):
    """Has ``steps``, the length of a schedule; None for that of the run."""

    steps: int | None


@checks.frozen
class Schedule:
    """A number as a function of the step: ``schedule(step)`` is traceable and float32."""

    def __call__(self, step: jax.Array | int) -> jax.Array:
        raise NotImplementedError

    @property
    def ends(self) -> tuple[float, ...]:
        """Values that bound the schedule; they must be finite, and at least 0 for a learning
        rate.
        """
        raise NotImplementedError

    def check_closed(self) -> None:
        """Refuse an open length outside an optimizer, where there is no run to take it from.

        It must not touch a device, as configs are built first.
        """
        if isinstance(self, HasLength) and self.steps is None:
            raise UserError(
                f"a {type(self).__name__} outside an optimizer needs its number of steps"
            )

    def with_steps(self, total_steps: int) -> Schedule:
        """Return the schedule with ``steps=None`` replaced by the run's number of steps."""
        if isinstance(self, HasLength) and self.steps is None:
            return dataclasses.replace(self, steps=total_steps)  # type: ignore[call-arg]
        return self


@checks.frozen
class Constant(Schedule):
    """The same value at every step.

    Attributes:
      value: the value.
    """

    value: float = 1e-3

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.value,)

    def __call__(self, step: jax.Array | int) -> jax.Array:
        return jnp.full(jnp.shape(step), self.value, FLOAT32)


@checks.frozen
class Linear(Schedule):
    """A linear ramp from ``start`` to ``end``, then ``end``.

    Attributes:
      start: value at step 0.
      end: value from ``steps`` on.
      steps: length; None for the whole run.
    """

    start: float = 1e-3
    end: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "steps")

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.start, self.end)

    def __call__(self, step: jax.Array | int) -> jax.Array:
        return self.start + (self.end - self.start) * _fraction(step, self.steps)


@checks.frozen
class Cosine(Schedule):
    """Half a cosine wave from ``start`` to ``end``, then ``end`` (Loshchilov & Hutter, arXiv
    1608.03983).

    Attributes:
      start: value at step 0.
      end: value from ``steps`` on.
      steps: length; None for the whole run.
    """

    start: float = 1e-3
    end: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "steps")

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.start, self.end)

    def __call__(self, step: jax.Array | int) -> jax.Array:
        wave = 0.5 * (1 + jnp.cos(jnp.pi * _fraction(step, self.steps)))
        return self.end + (self.start - self.end) * wave


@checks.frozen
class Rsqrt(Schedule):
    """``start`` for ``flat`` steps, then proportional to one over the square root of the step.

    Attributes:
      start: first and highest value.
      flat: number of steps before the decay.
    """

    start: float = 1e-3
    flat: int = 1000

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "flat")

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.start,)

    def __call__(self, step: jax.Array | int) -> jax.Array:
        return self.start * jnp.sqrt(self.flat / jnp.maximum(jnp.asarray(step, FLOAT32), self.flat))


@checks.frozen
class Piecewise(Schedule):
    """A step function: ``values[i]`` until step ``boundaries[i]``.

    Attributes:
      values: values, one more than boundaries.
      boundaries: increasing steps at which the next value starts.
    """

    values: tuple[float, ...] = (1e-3, 1e-4)
    boundaries: tuple[int, ...] = (10_000,)

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False))
        if len(self.values) != len(self.boundaries) + 1 or not rising:
            raise UserError(
                f"boundaries must be rising and one fewer than values, got {self.boundaries} for "
                f"{self.values}",
                "boundaries",
            )

    @property
    def ends(self) -> tuple[float, ...]:
        return self.values

    def __call__(self, step: jax.Array | int) -> jax.Array:
        piece = jnp.searchsorted(jnp.asarray(self.boundaries, jnp.int32), step, side="right")
        return jnp.asarray(self.values, FLOAT32)[piece]


@checks.frozen
class Cyclical(Schedule):
    """A ramp that is repeated in every period (Fu et al., arXiv 1903.10145).

    Attributes:
      start: value at the first step of each period.
      end: value from the end of each ramp to the end of its period.
      period: steps per period.
      ramp: share of a period in which the value rises.
      cycles: number of periods after which the value stays at ``end``; None for no limit.
    """

    start: float = 0.0
    end: float = 1.0
    period: int = 1000
    ramp: float = 0.5
    cycles: int | None = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "period")
        checks.numbers(self, ("ramp",), "above 0 and at most 1", lambda x: 0 < x <= 1)
        checks.at_least(self, 1, "cycles")

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.start, self.end)

    def __call__(self, step: jax.Array | int) -> jax.Array:
        step = jnp.asarray(step)
        within = (step % self.period).astype(FLOAT32) / (self.ramp * self.period)
        value = self.start + (self.end - self.start) * jnp.minimum(within, 1)
        return (
            value
            if self.cycles is None
            else jnp.where(step < self.cycles * self.period, value, self.end)
        )


@checks.frozen
class WarmUp(Schedule):
    """A linear warm-up from 0 to the first value of another schedule, which then starts.

    Attributes:
      warm_up: steps of the warm-up; the value at step i is (i + 1) / warm_up of the first value.
      then: schedule that follows.
    """

    warm_up: int = 100
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        if not isinstance(self.then, Schedule):
            raise UserError(f"then must be a schedule, got {self.then!r}", "then")
        checks.at_least(self, 0, "warm_up")

    @property
    def ends(self) -> tuple[float, ...]:
        return self.then.ends

    def __call__(self, step: jax.Array | int) -> jax.Array:
        step = jnp.asarray(step)
        rising = self.then(0) * (step + 1).astype(FLOAT32) / max(self.warm_up, 1)
        return jnp.where(
            step < self.warm_up, rising, self.then(jnp.maximum(step - self.warm_up, 0))
        )

    def check_closed(self) -> None:
        self.then.check_closed()

    def with_steps(self, total_steps: int) -> Schedule:
        return dataclasses.replace(
            self, then=self.then.with_steps(max(total_steps - self.warm_up, 1))
        )


def _fraction(step: jax.Array | int, steps: int | None) -> jax.Array:
    if steps is None:
        raise UserError("a schedule outside an optimizer needs its number of steps")
    return jnp.clip(jnp.asarray(step, FLOAT32) / max(steps, 1), 0, 1)
