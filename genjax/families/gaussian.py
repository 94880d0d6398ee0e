"""Independent Gaussians, and a layer of latents with such a posterior and prior."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from genjax.losses import gaussian_kl, gaussian_nll


class Normal(NamedTuple):
    """Independent Gaussians, [B, Z] each."""

    mean: jax.Array
    log_variance: jax.Array

    @classmethod
    def of(cls, outputs: jax.Array) -> Normal:
        """Split the outputs [B, 2 Z] of a network into mean and log-variance."""
        return cls(*jnp.split(outputs, 2, axis=-1))

    def draw(self, key: jax.Array) -> jax.Array:
        return self.mean + jnp.exp(0.5 * self.log_variance) * jax.random.normal(
            key, self.mean.shape
        )

    def multiply(self, other: Normal) -> Normal:
        """Return the normalised product of two densities, whose mean weights both by their
        precision.
        """
        log_precision = jnp.logaddexp(-self.log_variance, -other.log_variance)
        share = jnp.exp(-self.log_variance - log_precision)
        return Normal(share * self.mean + (1 - share) * other.mean, -log_precision)

    def repeat(self, times: int) -> Normal:
        """Repeat each row, [B * times, Z], so that the rows of an example stay on its device."""
        return Normal(*(jnp.repeat(x, times, axis=0) for x in self))


class Layer(NamedTuple):
    """One layer of latents: q(z | x, layers above), p(z | layers above), and a draw z [B, Z]."""

    posterior: Normal
    prior: Normal
    z: jax.Array

    def kl(self) -> jax.Array:
        """Return KL(q || p) of each dimension in nats, [B, Z]."""
        return gaussian_kl(*self.posterior, *self.prior)

    def log_ratio(self) -> jax.Array:
        """Return log q(z) - log p(z) [B] in nats at the draw."""
        return gaussian_nll(*self.prior, self.z) - gaussian_nll(*self.posterior, self.z)
