"""The generator and discriminator of R3GAN (Huang et al., arXiv 2501.05441): no normalisation.

Bottleneck residual blocks with grouped convolutions (Xie et al., arXiv 1611.05431), initialised as
Fixup does (Zhang et al., arXiv 1901.09321), leaky ReLUs, and bilinear resampling between
resolutions.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.attention import FlatDense
from genjax.nets.conv.conv import stage_sizes
from genjax.nets.mlp import LEAK, activate

# Kernels of this scale keep the variance through a leaky ReLU (He et al., arXiv 1502.01852).
GAIN = math.sqrt(2 / (1 + LEAK**2))
WEIGHTS = 3  # layers of a residual branch, of which Fixup scales all but the last


def double_bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Double an image by bilinear interpolation, and crop: [B, h, w, C] -> [B, *size, C].

    Each new pixel is 3/4 of the old one that it lies in and 1/4 of the next; edges repeat.
    """
    for axis in (1, 2):
        count = x.shape[axis]
        first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, count - 1))
        around = jnp.concatenate([first, x, last], axis)
        before, after = (
            jax.lax.slice_in_dim(around, start, start + count, axis=axis) for start in (0, 2)
        )
        pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * count, *x.shape[axis + 1 :])
    return x[:, : size[0], : size[1]]


def halve_bilinear(x: jax.Array) -> jax.Array:
    """Halve an image with the weights of ``double_bilinear``, (1, 3, 3, 1) / 8 along each axis:
    [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C]; edges repeat.
    """
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (1, 1 + x.shape[axis] % 2)
        around = jnp.pad(x, pad, mode="edge")
        end = around.shape[axis]
        taps = [
            jax.lax.slice_in_dim(around, start, end - 3 + start, stride=2, axis=axis)
            for start in range(4)
        ]
        x = (taps[0] + 3 * taps[1] + 3 * taps[2] + taps[3]) / 8
    return x


class FixupBlock(nn.Module):
    """x + 1x1(3x3 in groups(1x1(x))), a bias and a leaky ReLU after the first two: [B, H, W, C] ->
    the same.

    The last kernel starts at 0, so the block starts as the identity; the others are smaller by
    ``blocks`` to the power of -1 / 4, so that a step changes the output about as much however
    many blocks there are.
    """

    expansion: int
    group: int
    blocks: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inner = x.shape[-1] * self.expansion
        scale = GAIN * self.blocks ** (-1 / (2 * WEIGHTS - 2))
        init = nn.initializers.variance_scaling(scale**2, "fan_in", "normal")
        y = nn.Dense(inner, kernel_init=init, name="widen")(x.reshape(-1, x.shape[-1]))
        y = activate("leaky_relu", y).reshape(*x.shape[:-1], inner)
        grouped = nn.Conv(
            inner,
            (3, 3),
            kernel_init=init,
            feature_group_count=inner // self.group,
            name="grouped",
        )
        y = activate("leaky_relu", grouped(y))
        zero = nn.initializers.zeros
        flat = y.reshape(-1, inner)
        y = nn.Dense(x.shape[-1], use_bias=False, kernel_init=zero, name="narrow")(flat)
        return x + y.reshape(x.shape)


class R3GeneratorNet(nn.Module):
    """A learned map, weighted by z, then stages at doubling resolutions: [B, Z] -> [B, H, W, C]."""

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    blocks: int
    expansion: int
    group: int

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        sizes = stage_sizes(self.shape, len(self.channels) - 1)[::-1]
        (h, w), first = sizes[0], self.channels[0]
        basis = self.param("basis", nn.initializers.normal(1.0), (1, h, w, first))
        weights = nn.Dense(first, use_bias=False, name="weights")(z)
        x = basis.astype(z.dtype) * weights[:, None, None]
        for stage, (features, size) in enumerate(zip(self.channels, sizes, strict=True)):
            if stage:
                x = double_bilinear(_recolour(x, features, f"channels_{stage}"), size)
            x = _add_blocks(self, x, stage)
        return FlatDense(self.shape[-1], name="output")(x)


class R3DiscriminatorNet(nn.Module):
    """Stages at falling resolutions, then a weighted sum over the map: [B, H, W, C] -> [B,
    channels[-1]].
    """

    channels: tuple[int, ...]
    blocks: int
    expansion: int
    group: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool) -> jax.Array:
        stage_sizes(x.shape[1:], len(self.channels) - 1)
        x = FlatDense(self.channels[0], name="input")(x)
        for stage, features in enumerate(self.channels):
            if stage:
                x = _recolour(halve_bilinear(x), features, f"channels_{stage}")
            x = _add_blocks(self, x, stage)
        _, h, w, c = x.shape
        spread = nn.initializers.normal((h * w) ** -0.5)
        basis = self.param("basis", spread, (1, h, w, c)).astype(x.dtype)
        return (x * basis).sum((1, 2))


def _recolour(x: jax.Array, features: int, name: str) -> jax.Array:
    """Map to another number of channels, if they differ."""
    return x if x.shape[-1] == features else FlatDense(features, name=name)(x)


def _add_blocks(net: R3GeneratorNet | R3DiscriminatorNet, x: jax.Array, stage: int) -> jax.Array:
    """Apply the residual blocks of a stage."""
    total = net.blocks * len(net.channels)
    for number in range(net.blocks):
        x = FixupBlock(net.expansion, net.group, total, name=f"block_{stage}_{number}")(x)
    return x


@checks.frozen
class _R3Net:
    """The hyper-parameters of both.

    Attributes:
      channels: channels of the stages, each of twice or half the resolution of the one before.
      blocks: residual blocks of a stage.
      expansion: factor by which a block widens its channels.
      group: channels of a group of the 3x3 convolutions; divides the widened channels.
    """

    channels: tuple[int, ...] = (128, 128, 128, 128)
    blocks: int = 2
    expansion: int = 2
    group: int = 16

    def __post_init__(self) -> None:
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels", "blocks", "expansion", "group")
        checks.depth(self, "blocks")
        for channels in self.channels:
            if channels * self.expansion % self.group:
                raise UserError(
                    f"group must divide {channels * self.expansion} (widened channels), got "
                    f"{self.group}",
                    "group",
                )


@checks.frozen
class R3Generator(_R3Net):
    """The generator of R3GAN, for images of any resolution.

    Attributes:
      channels: channels of the stages, from the smallest, each of twice the resolution of the one
        before.
      blocks: residual blocks of a stage.
      expansion: factor by which a block widens its channels.
      group: channels of a group of the 3x3 convolutions; divides the widened channels.
    """

    def generator(self, shape: tuple[int, ...], axis: str | None = None) -> nn.Module:
        """Build the network: [B, Z] -> [B, H, W, C]."""
        stage_sizes(shape, len(self.channels) - 1)
        return R3GeneratorNet(shape, self.channels, self.blocks, self.expansion, self.group)


@checks.frozen
class R3Discriminator(_R3Net):
    """The discriminator of R3GAN, for images of any resolution.

    Attributes:
      channels: channels of the stages, from that of the image, each of half the resolution of the
        one before; the last is the number of features.
      blocks: residual blocks of a stage.
      expansion: factor by which a block widens its channels.
      group: channels of a group of the 3x3 convolutions; divides the widened channels.
    """

    def backbone(self, axis: str | None = None) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, channels[-1]]."""
        return R3DiscriminatorNet(self.channels, self.blocks, self.expansion, self.group)
