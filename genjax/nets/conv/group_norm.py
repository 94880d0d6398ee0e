"""Group normalisation and FiLM as one multiplication and one addition per element."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.machine.target import target_platform

EPSILON = 1e-5


def choose_groups(channels: int) -> int:
    """Return the number of groups: at most 32, each of two channels or more."""
    return math.gcd(32, max(1, channels // 2))


def prevent_fusion(x: jax.Array) -> jax.Array:
    """Return ``x`` [B, C], on a CPU multiplied by the identity, which XLA does not fuse with later
    operations.

    Otherwise XLA recomputes ``x`` for every place that it is broadcast to.
    """
    if target_platform() != "cpu":
        return x
    return jnp.matmul(x, jnp.eye(x.shape[-1], dtype=x.dtype), precision=jax.lax.Precision.HIGHEST)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He, arXiv 1803.08494), modulated: [B, ..., C] -> the same.

    ``(1 + scale) * normalised + shift`` is FiLM (Perez et al., arXiv 1709.07871). Means are taken
    over places first, then over a group's channels on [B, C] alone; statistics are float32.

    Attributes:
      silu: whether SiLU follows.
    """

    silu: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, scale: jax.Array | None = None, shift: jax.Array | None = None
    ) -> jax.Array:
        """Normalise x; ``scale`` and ``shift`` [B, C] modulate each example, if given."""
        b, channels = len(x), x.shape[-1]
        groups = choose_groups(channels)
        gain = self.param("scale", nn.initializers.ones, (channels,)).astype(jnp.float32)[None]
        bias = self.param("bias", nn.initializers.zeros, (channels,)).astype(jnp.float32)[None]

        def grouped(mean: jax.Array) -> jax.Array:  # [B, C], the same within a group
            return mean.reshape(b, groups, -1).mean(-1).repeat(channels // groups, axis=-1)

        flat = x.reshape(b, -1, channels)
        wide = flat.astype(jnp.float32)
        mean, square = grouped(wide.mean(1)), grouped(jnp.square(wide).mean(1))
        variance = jnp.maximum(square - jnp.square(mean), 0)
        factor = gain * jax.lax.rsqrt(variance + EPSILON)
        offset = bias - mean * factor
        if scale is not None:
            factor, offset = factor * (1 + scale), offset * (1 + scale)
        if shift is not None:
            offset = offset + shift
        factor, offset = prevent_fusion(factor), prevent_fusion(offset)
        y = flat * factor.astype(x.dtype)[:, None] + offset.astype(x.dtype)[:, None]
        return (nn.silu(y) if self.silu else y).reshape(x.shape)
