"""Batch normalisation with exact statistics for masked batches on several devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Stats = Any
MOMENTUM = 0.9


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy, arXiv 1502.03167) over all axes but the last: [B, ...,
    C] -> the same.

    Unlike ``nn.BatchNorm`` it counts rows, so that a batch spread over devices has the statistics
    of the whole batch wherever its masked rows are. Statistics are always float32. ``batch_stats``
    holds ``mean`` and ``var`` [C], moving averages; ``var`` is unbiased, as PyTorch keeps it.

    Attributes:
      axis: mapped axis over whose devices the batch is spread, if any.
      momentum: decay of the moving averages.
      epsilon: added to the variance.
    """

    axis: str | None = None
    momentum: float = MOMENTUM
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Normalise x; ``mask`` [B] selects the rows in the statistics of a training step, all by
        default.
        """
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if not train:
            return self._normalise(x, mean.value, var.value, scale, bias)

        rows = jnp.ones(x.shape[0]) if mask is None else mask.astype(jnp.float32)
        count = rows.sum() * (x.size // (x.shape[0] * channels))
        flat = x.astype(jnp.float32).reshape(x.shape[0], -1, channels)
        if mask is not None:
            flat = flat * rows[:, None, None]
        sums = flat.sum((0, 1)), jnp.square(flat).sum((0, 1)), count
        if self.axis is not None and not self.is_initializing():
            sums = jax.lax.psum(sums, self.axis)
        total, squares, count = sums
        count = jnp.maximum(count, 1.0)
        now = total / count
        biased = jnp.maximum(squares / count - jnp.square(now), 0)
        if not self.is_initializing():
            unbiased = biased * count / jnp.maximum(count - 1, 1.0)
            mean.value = self.momentum * mean.value + (1 - self.momentum) * now
            var.value = self.momentum * var.value + (1 - self.momentum) * unbiased
        return self._normalise(x, now, biased, scale, bias)

    def _normalise(
        self, x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
    ) -> jax.Array:
        """Normalise by one multiplication and one addition per element, in the dtype of ``x``."""
        factor = scale.astype(jnp.float32) * jax.lax.rsqrt(var + self.epsilon)  # [C]
        offset = bias.astype(jnp.float32) - mean * factor
        axes = (1,) * (x.ndim - 1)
        return x * factor.astype(x.dtype).reshape(*axes, -1) + offset.astype(x.dtype).reshape(
            *axes, -1
        )


def measure_batch_stats(apply_to_zeros: Callable[[Stats], Stats], stats: Stats) -> Stats:
    """Return the statistics of one batch, for parameters that the moving averages do not fit.

    Args:
      apply_to_zeros: one training pass over the batch, from ``batch_stats`` to the updated ones.
      stats: ``batch_stats`` of the same shapes.
    """
    after = apply_to_zeros(jax.tree.map(jnp.zeros_like, stats))
    return jax.tree.map(lambda moved: moved / (1 - MOMENTUM), after)
