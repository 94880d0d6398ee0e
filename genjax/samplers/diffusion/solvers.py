"""Solvers of the probability-flow ODE with a fixed number of steps.

The ODE is dx = x0 dalpha + noise dsigma, with x0 the posterior mean and noise = (x - alpha x0) /
sigma.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.samplers.diffusion.processes import Process
from genjax.samplers.diffusion.steps import Denoise, Step, Walk, walk


@checks.frozen
class Euler(Walk):
    """First order: x0 and noise are constant over a step, x' = alpha' x0 + sigma' noise.

    That is x + (t' - t) velocity with ``Straight`` and x + (sigma' - sigma) noise with ``EDM``
    (arXiv 2206.00364). With every process it is the Euler step of x / alpha over sigma / alpha,
    which is ``DDIM`` without noise.
    """

    def __call__(
        self, denoise: Denoise, process: Process, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        def step(x: jax.Array, here: Step) -> jax.Array:
            return _step_deterministic(here, denoise(x, here.t), x)

        return walk(step, process, self.steps, x)


@checks.frozen
class Heun(Walk):
    """Second order (arXiv 2206.00364, algorithm 1): the trapezoidal rule, with an Euler step to
    find the far end.

    x' = x + (alpha' - alpha) mean x0 + (sigma' - sigma) mean noise, with means over both ends. This
    is the paper's with ``EDM``, and x + (t' - t) mean velocity with ``Straight``. The last step is
    an Euler step, so n steps need 2n - 1 evaluations.
    """

    def __call__(
        self, denoise: Denoise, process: Process, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        def step(x: jax.Array, here: Step) -> jax.Array:
            x0 = denoise(x, here.t)
            ahead = _step_deterministic(here, x0, x)

            def correct() -> jax.Array:
                next_x0 = denoise(ahead, here.next_t)
                noise = here.noise(x0, x) + here.next_noise(next_x0, ahead)
                by_alpha = 0.5 * (here.next_alpha - here.alpha) * (x0 + next_x0)
                return x + by_alpha + 0.5 * (here.next_sigma - here.sigma) * noise

            return jax.lax.cond(here.last, lambda: ahead, correct)

        return walk(step, process, self.steps, x)


@checks.frozen
class DPMSolver(Walk):
    """DPM-Solver++(2M): second order with one evaluation per step (arXiv 2211.01095, algorithm 2).

    Over lambda = log(alpha / sigma), x0 is extrapolated from the last two evaluations to the middle
    of the step; in the first and last step it is constant. The order is reached where all steps
    shrink in lambda as their number grows, as with ``EDM``; on grids even in t, those next to 0 and
    1 do not, and the error falls somewhat more slowly.
    """

    def __call__(
        self, denoise: Denoise, process: Process, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        def step(
            carry: tuple[jax.Array, jax.Array, jax.Array], here: Step
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            x, before, length_before = carry
            x0 = denoise(x, here.t).astype(x.dtype)
            length = jnp.log(here.next_alpha / here.alpha) - jnp.log(here.next_sigma / here.sigma)
            held = here.last | (here.number == 0)
            # The ratio is undefined for an infinite length, from alpha = 0 or to sigma = 0.
            ratio = jnp.where(held, 0.0, length / jnp.where(held, 1.0, length_before))
            middle = x0 + 0.5 * ratio * (x0 - before)
            shrink = here.next_sigma / here.sigma
            return shrink * x + (here.next_alpha - here.alpha * shrink) * middle, x0, length

        return walk(step, process, self.steps, (x, jnp.zeros_like(x), jnp.ones((), x.dtype)))[0]


def _step_deterministic(here: Step, x0: jax.Array, x: jax.Array) -> jax.Array:
    return here.next_alpha * x0 + here.next_sigma * here.noise(x0, x)
