"""Generators and discriminators: MLPs, and the convolutions of DCGAN (Radford et al., arXiv
1511.06434).

A generator maps z [B, Z] to outputs [B, *shape] without a final activation; a discriminator is a
backbone that maps [B, *shape] to features [B, F].
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.conv import DownConv, UpConv, stage_sizes
from genjax.nets.conv.norm import BatchNorm
from genjax.nets.mlp import Activation, activate, check_activation


class MLPGeneratorNet(nn.Module):
    """Dense layers, optionally with batch norm: [B, Z] -> [B, *shape]."""

    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    activation: Activation
    batch_norm: bool
    axis: str | None = None

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        for i, width in enumerate(self.hidden):
            z = nn.Dense(width, use_bias=not self.batch_norm, name=f"hidden_{i}")(z)
            if self.batch_norm:
                z = BatchNorm(self.axis, name=f"norm_{i}")(z, train=train)
            z = activate(self.activation, z)
        return nn.Dense(math.prod(self.shape), name="output")(z).reshape(z.shape[0], *self.shape)


@checks.frozen
class MLPGenerator:
    """An MLP generator, for data of any shape.

    Attributes:
      hidden: widths of the hidden layers.
      activation: activation after each hidden layer.
      batch_norm: whether hidden layers have batch norm.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "hidden")
        check_activation(self.activation)

    def generator(self, shape: tuple[int, ...], axis: str | None = None) -> nn.Module:
        """Build the network: [B, Z] -> [B, *shape]; ``axis`` is the mapped axis that batch
        statistics span.
        """
        return MLPGeneratorNet(shape, self.hidden, self.activation, self.batch_norm, axis)


class MaxoutFeatures(nn.Module):
    """Layers whose units are the maximum of several linear pieces: [B, ...] -> [B, hidden[-1]]."""

    hidden: tuple[int, ...]
    pieces: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden):
            pieces = nn.Dense(self.pieces * width, name=f"hidden_{i}")(x)
            x = pieces.reshape(-1, self.pieces, width).max(1)
        return x


@checks.frozen
class MaxoutBackbone:
    """A maxout network (Goodfellow et al., arXiv 1302.4389), for data of any shape.

    Attributes:
      hidden: widths; the last is the number of features.
      pieces: linear pieces per unit.
    """

    hidden: tuple[int, ...] = (200, 200, 200)
    pieces: int = 5

    def __post_init__(self) -> None:
        checks.some(self, "hidden")
        checks.at_least(self, 1, "hidden")
        checks.at_least(self, 2, "pieces")

    def backbone(self, axis: str | None = None) -> nn.Module:
        """Build the network: [B, *shape] -> [B, hidden[-1]]."""
        return MaxoutFeatures(self.hidden, self.pieces)


class ConvGeneratorNet(nn.Module):
    """A dense layer, then transposed convolutions of stride 2, cropped to the sizes of the stages.

    [B, Z] -> [B, H, W, C].
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    kernel: int
    batch_norm: bool
    head: int
    axis: str | None = None

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        def normalised(x: jax.Array, name: str) -> jax.Array:
            return activate(
                "relu", BatchNorm(self.axis, name=name)(x, train=train) if self.batch_norm else x
            )

        stages = len(self.channels) - (1 if self.head else 0)
        *sizes, (h, w) = stage_sizes(self.shape, stages)
        x = nn.Dense(h * w * self.channels[0], use_bias=not self.batch_norm, name="stem")(z)
        x = normalised(x.reshape(-1, h, w, self.channels[0]), "norm_stem")
        outputs = (*self.channels[1:], self.shape[-1])
        for i, (h, w) in enumerate(reversed(sizes)):
            x = UpConv(outputs[i], self.kernel, name=f"up_{i}")(x)[:, :h, :w]
            if self.head or i + 1 < stages:
                x = normalised(x, f"norm_{i}")
        return nn.Conv(self.shape[-1], (self.head, self.head), name="head")(x) if self.head else x


@checks.frozen
class ConvGenerator:
    """A convolutional generator, for images of any resolution.

    Attributes:
      channels: channels of the maps, from the smallest, each of twice the resolution of the one
        before; the last transposed convolution outputs the image, unless there is a head.
      kernel: kernel size of the transposed convolutions, even.
      batch_norm: whether all maps but the image have batch norm.
      head: kernel size of a last convolution at full resolution; 0 for none.
    """

    channels: tuple[int, ...] = (256, 128)
    kernel: int = 4
    batch_norm: bool = True
    head: int = 0

    def __post_init__(self) -> None:
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels")
        if self.kernel < 2 or self.kernel % 2:
            raise UserError(f"kernel must be even and >= 2, got {self.kernel}", "kernel")
        checks.at_least(self, 0, "head")

    def generator(self, shape: tuple[int, ...], axis: str | None = None) -> nn.Module:
        """Build the network: [B, Z] -> [B, H, W, C]; ``axis`` is the mapped axis that batch
        statistics span.
        """
        return ConvGeneratorNet(shape, self.channels, self.kernel, self.batch_norm, self.head, axis)


class ConvFeatures(nn.Module):
    """Strided convolutions: [B, H, W, C] -> [B, h * w * channels[-1]]."""

    channels: tuple[int, ...]
    kernel: int
    activation: Activation
    batch_norm: bool
    dropout: float
    axis: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool) -> jax.Array:
        stage_sizes(x.shape[1:], len(self.channels))
        for i, features in enumerate(self.channels):
            x = DownConv(features, self.kernel, name=f"down_{i}")(x)
            if self.batch_norm and i:  # not on the first layer, as in the paper
                x = BatchNorm(self.axis, name=f"norm_{i}")(x, mask, train=train)
            x = nn.Dropout(self.dropout, deterministic=not train)(activate(self.activation, x))
        return x.reshape(x.shape[0], -1)


@checks.frozen
class ConvBackbone:
    """A backbone of strided convolutions, for images of any resolution.

    Attributes:
      channels: channels of the stages, each halving the resolution.
      kernel: kernel size, even.
      activation: activation after each stage.
      batch_norm: whether all stages but the first have batch norm.
      dropout: share of each stage's outputs dropped in training.
    """

    channels: tuple[int, ...] = (64, 128)
    kernel: int = 4
    activation: Activation = "leaky_relu"
    batch_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels")
        if self.kernel < 2 or self.kernel % 2:
            raise UserError(f"kernel must be even and >= 2, got {self.kernel}", "kernel")
        check_activation(self.activation)
        checks.share(self, "dropout")

    def backbone(self, axis: str | None = None) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, F]; ``axis`` is the mapped axis that batch
        statistics span.
        """
        return ConvFeatures(
            self.channels, self.kernel, self.activation, self.batch_norm, self.dropout, axis
        )
