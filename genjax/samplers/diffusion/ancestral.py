"""Stochastic samplers: each step replaces part of the noise by fresh noise.

They step to x' = alpha' x0 + sqrt(sigma'^2 - c^2) noise + c fresh. The posterior q(x' | x, x0) of
any process has c^2 = (sigma^2 - (alpha / alpha')^2 sigma'^2) sigma'^2 / sigma^2.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.samplers.diffusion.processes import Process
from genjax.samplers.diffusion.steps import Denoise, Step, Walk, walk

Variance = Literal["small", "large"]


@checks.frozen
class DDIM(Walk):
    """Denoising diffusion implicit models (arXiv 2010.02502, eq. 12 and 16).

    Attributes:
      eta: standard deviation of the fresh noise over that of the posterior; 0 is deterministic, 1
          is ``DDPM``.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.between(self, 0, 1, "eta")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def __call__(
        self, denoise: Denoise, process: Process, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        def step(x: jax.Array, here: Step) -> jax.Array:
            fresh = self.eta * jnp.sqrt(posterior_variance(here))
            return renoise(here, denoise(x, here.t), x, fresh, fresh, key)

        return walk(step, process, self.steps, x)


@checks.frozen
class DDPM(Walk):
    """Ancestral sampling of denoising diffusion probabilistic models (arXiv 2006.11239, algorithm
    2).

    Attributes:
      variance: variance of the noise of a step: "small" for that of q(x' | x, x0), which is optimal
          if the data are one point, or "large" for that of q(x | x'), sigma^2 - (alpha / alpha')^2
          sigma'^2 (their beta_t), optimal for data of unit variance. The last step adds no noise.
    """

    steps: int = 1000
    variance: Variance = "small"

    def __post_init__(self) -> None:
        super().__post_init__()

    @property
    def stochastic(self) -> bool:
        return True

    def __call__(
        self, denoise: Denoise, process: Process, x: jax.Array, key: jax.Array
    ) -> jax.Array:
        def step(x: jax.Array, here: Step) -> jax.Array:
            forgotten = jnp.sqrt(posterior_variance(here))
            large = jnp.where(here.last, 0.0, jnp.sqrt(_forward_variance(here)))
            fresh = large if self.variance == "large" else forgotten
            return renoise(here, denoise(x, here.t), x, forgotten, fresh, key)

        return walk(step, process, self.steps, x)


@checks.frozen
class Ancestral(DDIM):
    """Euler's ancestral sampler of the k-diffusion library, over s = sigma / alpha.

    An Euler step of x / alpha to s_down, then fresh noise s_up of eta times the posterior's
    standard deviation, with s_up^2 + s_down^2 = s'^2. In terms of x this is the step of ``DDIM``
    with the same eta.
    """

    eta: float = 1.0


def _forward_variance(here: Step) -> jax.Array:
    """Return the variance [] of q(x | x'), where x' is the end of the step."""
    variance = jnp.square(here.sigma) - jnp.square(here.alpha / here.next_alpha * here.next_sigma)
    return jnp.maximum(variance, 0)  # rounding may make it negative


def posterior_variance(here: Step) -> jax.Array:
    """Return the variance [] of q(x' | x, x0); 0 where the step ends at the clean data."""
    return _forward_variance(here) * jnp.square(here.next_sigma / here.sigma)


def posterior_mean(here: Step, x0: jax.Array, x: jax.Array) -> jax.Array:
    """Return the mean [B, ...] of q(x' | x, x0)."""
    kept = jnp.sqrt(jnp.maximum(jnp.square(here.next_sigma) - posterior_variance(here), 0))
    return here.next_alpha * x0 + kept * here.noise(x0, x)


def renoise(
    here: Step, x0: jax.Array, x: jax.Array, forgotten: jax.Array, fresh: jax.Array, key: jax.Array
) -> jax.Array:
    """Return x' [B, ...] with noise of deviation ``forgotten`` [] removed and of ``fresh`` []
    added.
    """
    kept = jnp.sqrt(jnp.maximum(jnp.square(here.next_sigma) - jnp.square(forgotten), 0))
    drawn = jax.random.normal(jax.random.fold_in(key, here.number), x.shape, x.dtype)
    return here.next_alpha * x0 + kept * here.noise(x0, x) + fresh * drawn
