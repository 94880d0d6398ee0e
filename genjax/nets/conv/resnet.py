"""A small, fast residual network (He et al., arXiv 1512.03385) as a backbone."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.conv import DownConv, stage_sizes
from genjax.nets.conv.norm import BatchNorm
from genjax.nets.mlp import Activation, activate, check_activation

NormName = Literal["batch", "group", "none"]


class Normalised(nn.Module):
    """Normalisation by name: [B, H, W, C] -> the same."""

    norm: NormName
    groups: int
    axis: str | None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, *, train: bool) -> jax.Array:
        if self.norm == "batch":
            return BatchNorm(self.axis, name="batch")(x, mask, train=train)
        if self.norm == "group":
            return nn.GroupNorm(self.groups, dtype=x.dtype, name="group")(x)
        return x


class ResNetBackbone(nn.Module):
    """Images to features: [B, H, W, C] -> [B, channels[-1]], or [B, h, w, channels[-1]] without
    ``pooled``.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    activation: Activation
    norm: NormName
    groups: int
    stem: int
    axis: str | None = None
    pooled: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Return the features; ``mask`` [B] selects the rows in batch statistics."""

        def normalised(x: jax.Array, name: str) -> jax.Array:
            return Normalised(self.norm, self.groups, self.axis, name=name)(x, mask, train=train)

        def conv(x: jax.Array, features: int, name: str) -> jax.Array:
            bias = self.norm == "none"  # a norm has its own bias
            return nn.Conv(
                features, (3, 3), use_bias=bias, kernel_init=nn.initializers.he_normal(), name=name
            )(x)

        stage_sizes(x.shape[1:], len(self.channels))
        if self.stem:
            x = activate(self.activation, normalised(conv(x, self.stem, "stem"), "norm_stem"))
        for stage, (features, blocks) in enumerate(zip(self.channels, self.blocks, strict=True)):
            x = DownConv(features, name=f"down_{stage}")(x)
            x = activate(self.activation, normalised(x, f"norm_{stage}"))
            for block in range(blocks):
                name = f"{stage}_{block}"
                y = activate(
                    self.activation, normalised(conv(x, features, f"conv_{name}a"), f"norm_{name}a")
                )
                y = normalised(conv(y, features, f"conv_{name}b"), f"norm_{name}b")
                x = activate(self.activation, x + y)
        return x.mean((1, 2)) if self.pooled else x


@checks.frozen
class ResNet:
    """Stages that halve the image, each followed by residual blocks of two 3x3 convolutions; then
    mean pooling.

    Stages halve by 4x4 convolutions of stride 2, which cost less than half as much as a 3x3 one
    with pooling and have fast gradients on every platform.

    Attributes:
      channels: channels of each stage; the last is the number of features.
      blocks: residual blocks of each stage; one number for each of ``channels``.
      activation: activation after each norm.
      norm: "batch" (of the whole batch on any number of devices), "group" or "none".
      groups: groups of group normalisation; divides all channels.
      stem: channels of a 3x3 convolution at full resolution before the stages; 0 for none.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 1, 1)
    activation: Activation = "relu"
    norm: NormName = "batch"
    groups: int = 8
    stem: int = 0

    def __post_init__(self) -> None:
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels")
        if len(self.blocks) != len(self.channels):
            raise UserError(
                f"blocks must have a number for each of channels, {self.channels}, got "
                f"{self.blocks}",
                "blocks",
            )
        check_activation(self.activation)
        checks.at_least(self, 0, "stem", "blocks")
        checks.depth(self, "blocks")
        checks.at_least(self, 1, "groups")
        widths = (self.stem, *self.channels)
        if self.norm == "group" and any(width % self.groups for width in widths):
            raise UserError(
                f"groups must divide all channels, {widths}, got {self.groups}", "groups"
            )

    def backbone(self, axis: str | None = None) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, channels[-1]]; ``axis`` is the mapped axis that
        batch statistics span.
        """
        return ResNetBackbone(
            self.channels, self.blocks, self.activation, self.norm, self.groups, self.stem, axis
        )

    def grid(self) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, h, w, channels[-1]], with the parameters of
        ``backbone``.

        Raises:
          UserError: ``norm`` is "batch": only a classifier keeps batch statistics.
        """
        if self.norm == "batch":
            raise UserError(
                'norm must be "group" or "none" for a grid of features, which keeps no batch '
                'statistics, got "batch"',
                "norm",
            )
        settings = self.channels, self.blocks, self.activation, self.norm, self.groups, self.stem
        return ResNetBackbone(*settings, pooled=False)
