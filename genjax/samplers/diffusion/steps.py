"""The interface of samplers, and the loop over a process's grid from noise to data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.samplers.diffusion.processes import Process

T = TypeVar("T")
# The posterior mean E[x0 | x_t]: x [B, ...] and t [] to x0 [B, ...].
Denoise = Callable[[jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class Sampler:
    """Turns noise into data, using only the posterior mean."""

    @property
    def stochastic(self) -> bool:
        """Whether sampling adds noise; if not, the sample is a function of the initial x."""
        return False

    def __call__(
        self, denoise: Denoise, process: Process, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Return samples x0 [B, ...].

        Args:
          denoise: the posterior mean.
          process: diffusion process, whose ``grid`` has the timesteps.
          x: initial x_1 [B, ...], such as sigma(1) times unit noise; float32, as the times.
          key: random key of the noise that is added, if any.
        """
        raise NotImplementedError


@checks.frozen
class Walk(Sampler):
    """A sampler with a fixed number of steps; the last goes from the end of the grid to the clean
    data.

    Attributes:
      steps: number of steps.

    ``least`` is the smallest number of steps.
    """

    least: ClassVar[int] = 1

    steps: int = 50

    def __post_init__(self) -> None:
        checks.between(self, self.least, 100_000, "steps")


class Step(NamedTuple):
    """One step down the grid, all []: t, alpha and sigma at its start and at its end (``next_``).

    Attributes:
      number: number of the step, from 0.
      last: whether it ends at the clean data, alpha 1 and sigma 0; then ``next_t`` is ``t``.
    """

    number: jax.Array
    last: jax.Array
    t: jax.Array
    alpha: jax.Array
    sigma: jax.Array
    next_t: jax.Array
    next_alpha: jax.Array
    next_sigma: jax.Array

    def noise(self, x0: jax.Array, x: jax.Array) -> jax.Array:
        """Return the unit noise of x [B, ...] at the start, given its data."""
        return (x - self.alpha * x0) / self.sigma

    def next_noise(self, x0: jax.Array, x: jax.Array) -> jax.Array:
        """Return the unit noise of x [B, ...] at the end, which must not be the clean data."""
        return (x - self.next_alpha * x0) / self.next_sigma


def make_steps(process: Process, steps: int) -> Step:
    """Return all steps down the grid, each field [steps]."""
    t = process.grid(steps)
    alpha, sigma = process.alpha_sigma(t)
    number = jnp.arange(steps)
    return Step(
        number=number,
        last=number == steps - 1,
        t=t,
        alpha=alpha,
        sigma=sigma,
        next_t=jnp.append(t[1:], t[-1]),
        next_alpha=jnp.append(alpha[1:], jnp.ones_like(alpha[0])),
        next_sigma=jnp.append(sigma[1:], jnp.zeros_like(sigma[0])),
    )


def walk(step: Callable[[T, Step], T], process: Process, steps: int, start: T) -> T:
    """Apply ``step`` over the whole grid in one scan, so that the network is traced once."""
    path = make_steps(process, steps)
    return jax.lax.scan(lambda carry, here: (step(carry, here), None), start, path)[0]
