"""Per-example losses: arrays [B, ...] in, [B] out, in nats, never reduced over the batch."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def _over_example(values: jax.Array) -> jax.Array:
    # A product with ones: XLA's CPU back end fuses the terms into a sum over [H, W, C] and loses its vectors to a
    # short last axis; the sum of a binary cross-entropy over 128 x 28x28x1 took 7 ms so, 0.4 ms as a product.
    flat = values.reshape(values.shape[0], -1)
    return jnp.dot(flat, jnp.ones(flat.shape[1], flat.dtype), precision="highest")


def bernoulli_nll(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-log p of targets in [0, 1] under independent Bernoullis; the cross-entropy when they lie in between."""
    softplus = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return _over_example(softplus - targets * logits)


def gaussian_nll(mean: jax.Array, log_variance: jax.Array, targets: jax.Array) -> jax.Array:
    """-log density of targets under independent Gaussians; ``log_variance`` broadcasts."""
    squared = jnp.square(targets - mean) * jnp.exp(-log_variance)
    return _over_example(0.5 * (squared + log_variance + math.log(2 * math.pi)))


def kl_to_standard_normal(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL(N(mean, diag exp(log_variance)) || N(0, I)), closed form (Kingma & Welling, arXiv 1312.6114, app. B)."""
    return _over_example(0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance))
