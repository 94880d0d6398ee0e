"""Residual generators and discriminators (Miyato et al., arXiv 1802.05957).

Self-attention: Zhang et al., arXiv 1805.08318.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.conv import stage_sizes
from genjax.nets.conv.norm import BatchNorm


class SpatialAttention(nn.Module):
    """Self-attention over all places, added to the input with a weight that starts at 0: [B, H, W,
    C] -> the same.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        flat = x.reshape(-1, c)  # matrix products are fastest on flat inputs

        def projected(features: int, name: str) -> jax.Array:
            return nn.Dense(features, use_bias=False, name=name)(flat).reshape(b, h, w, features)

        query = projected(max(c // 8, 1), "query").reshape(b, h * w, -1)
        # Keys and values at half the resolution need a quarter of the scores.
        key = _max_pool(projected(max(c // 8, 1), "key")).reshape(b, -1, query.shape[-1])
        value = _max_pool(projected(max(c // 2, 1), "value")).reshape(b, -1, max(c // 2, 1))
        weights = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", query, key))
        mixed = jnp.einsum("bqk,bkd->bqd", weights, value).reshape(b * h * w, -1)
        out = nn.Dense(c, use_bias=False, name="output")(mixed).reshape(x.shape)
        return x + self.param("weight", nn.initializers.zeros, ()).astype(x.dtype) * out


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (2, 2), (2, 2), "SAME")


def _mean_pool(x: jax.Array) -> jax.Array:
    """Average each 2x2 block; at an odd edge, the pixels that exist."""
    return nn.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False)


def _double_size(x: jax.Array) -> jax.Array:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _conv(features: int, size: int, name: str) -> nn.Conv:
    return nn.Conv(features, (size, size), kernel_init=nn.initializers.xavier_uniform(), name=name)


class ResNetGeneratorNet(nn.Module):
    """[B, Z] -> [B, H, W, C]."""

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    attention: tuple[int, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        def active(x: jax.Array, name: str) -> jax.Array:
            return nn.relu(BatchNorm(self.axis, name=name)(x, train=train))

        *sizes, (h, w) = stage_sizes(self.shape, len(self.channels) - 1)
        x = nn.Dense(h * w * self.channels[0], name="stem")(z).reshape(-1, h, w, self.channels[0])
        for i, (h, w) in enumerate(reversed(sizes)):
            features = self.channels[i + 1]
            y = _double_size(active(x, f"norm_{i}a"))[:, :h, :w]
            y = _conv(features, 3, f"conv_{i}a")(y)
            y = _conv(features, 3, f"conv_{i}b")(active(y, f"norm_{i}b"))
            # A 1x1 convolution and doubling commute; this order costs a quarter.
            x = y + _double_size(_conv(features, 1, f"short_{i}")(x))[:, :h, :w]
            if h in self.attention:
                x = SpatialAttention(name=f"attention_{i}")(x)
        return _conv(self.shape[-1], 3, "output")(active(x, "norm_output"))


@checks.frozen
class ResNetGenerator:
    """Residual blocks that double the resolution.

    Attributes:
      channels: channels of the maps, from the smallest, each of twice the resolution of the one
        before.
      attention: resolutions (heights) with self-attention after the block.
    """

    channels: tuple[int, ...] = (256, 256, 256, 256)
    attention: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check(self.channels)

    def generator(self, shape: tuple[int, ...], axis: str | None = None) -> nn.Module:
        """Build the network: [B, Z] -> [B, H, W, C]; ``axis`` is the mapped axis that batch
        statistics span.
        """
        reached = [h for h, _ in stage_sizes(shape, len(self.channels) - 1)][:-1]
        _check_attention(self.attention, reached)
        return ResNetGeneratorNet(shape, self.channels, self.attention, axis)


class ResNetDiscriminatorNet(nn.Module):
    """[B, H, W, C] -> [B, channels[-1]]."""

    channels: tuple[int, ...]
    halved: int
    attention: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool) -> jax.Array:
        reached = [h for h, _ in stage_sizes(x.shape[1:], self.halved)][1:]
        _check_attention(self.attention, reached)
        for i, features in enumerate(self.channels):
            y = x if i == 0 else nn.relu(x)  # no activation on the data
            y = _conv(features, 3, f"conv_{i}b")(nn.relu(_conv(features, 3, f"conv_{i}a")(y)))
            if i < self.halved:
                x = _mean_pool(y) + _conv(features, 1, f"short_{i}")(_mean_pool(x))
            else:
                x = y + (x if x.shape[-1] == features else _conv(features, 1, f"short_{i}")(x))
            if i < self.halved and x.shape[1] in self.attention:
                x = SpatialAttention(name=f"attention_{i}")(x)
        return nn.relu(x).sum((1, 2))


@checks.frozen
class ResNetDiscriminator:
    """Residual blocks, the first of which halve the resolution; then the sum over the map.

    Attributes:
      channels: channels of the blocks; the last is the number of features.
      halved: how many of the first blocks halve the resolution.
      attention: resolutions (heights) with self-attention after the block that halves to it.
    """

    channels: tuple[int, ...] = (128, 128, 128, 128)
    halved: int = 2
    attention: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check(self.channels)
        if not 0 <= self.halved <= len(self.channels):
            raise UserError(
                f"halved must be from 0 to {len(self.channels)} (blocks), got {self.halved}",
                "halved",
            )

    def backbone(self, axis: str | None = None) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, channels[-1]]."""
        return ResNetDiscriminatorNet(self.channels, self.halved, self.attention)


def _check(channels: tuple[int, ...]) -> None:
    if not channels or min(channels) < 1:
        raise UserError(f"channels must be one or more numbers >= 1, got {channels}", "channels")


def _check_attention(attention: tuple[int, ...], reached: list[int]) -> None:
    for size in attention:
        if size not in reached:
            raise UserError(
                f"attention must be among the resolutions {reached}, got {size}", "attention"
            )
