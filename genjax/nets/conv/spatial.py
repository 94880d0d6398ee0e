"""Convolutional encoder and decoder between images and grids of vectors."""

from __future__ import annotations

import flax.linen as nn
import jax

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.conv import DownConv, UpConv, stage_sizes
from genjax.nets.mlp import Activation, activate, check_activation


class PixelDense(nn.Module):
    """A 1x1 convolution: [B, H, W, C] -> [B, H, W, features]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Flat, because on a CPU the gradient of a Dense over several batch axes is far slower.
        y = nn.Dense(self.features, name="dense")(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], self.features)


class SpatialBlock(nn.Module):
    """x + 1x1(3x3(x)), an activation before each convolution (He et al., arXiv 1603.05027): [B, H,
    W, C] -> the same.

    The 3x3 convolution has a quarter of the channels, as in the VQ-VAE of DeepMind's Sonnet.
    """

    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        y = nn.Conv(max(1, features // 4), (3, 3), name="conv")(activate(self.activation, x))
        return x + PixelDense(features, name="output")(activate(self.activation, y))


class SpatialEncoder(nn.Module):
    """Strided convolutions, then residual blocks: [B, H, W, C] -> [B, h, w, outputs]."""

    channels: tuple[int, ...]
    outputs: int
    residual_blocks: int = 2
    kernel: int = 4
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stage_sizes(x.shape[1:], len(self.channels))
        for i, features in enumerate(self.channels):
            x = activate(self.activation, x) if i else x
            x = DownConv(features, self.kernel, name=f"down_{i}")(x)
        for i in range(self.residual_blocks):
            x = SpatialBlock(self.activation, name=f"block_{i}")(x)
        return PixelDense(self.outputs, name="output")(activate(self.activation, x))


class SpatialDecoder(nn.Module):
    """Residual blocks, then transposed convolutions, each cropped to the encoder's size: [B, h, w,
    D] -> [B, *shape].

    The last convolution is named ``output``.
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]  # in the encoder's order
    residual_blocks: int = 2
    kernel: int = 4
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        sizes = stage_sizes(self.shape, len(self.channels))
        x = nn.Conv(self.channels[-1], (3, 3), name="stem")(z)
        for i in range(self.residual_blocks):
            x = SpatialBlock(self.activation, name=f"block_{i}")(x)
        for i, features in enumerate(self.channels[-2::-1]):
            h, w = sizes[-2 - i]
            x = UpConv(features, self.kernel, name=f"up_{i}")(activate(self.activation, x))[
                :, :h, :w
            ]
        h, w = sizes[0]
        return UpConv(self.shape[-1], self.kernel, name="output")(activate(self.activation, x))[
            :, :h, :w
        ]


@checks.frozen
class SpatialCoder:
    """An encoder to a grid of vectors and a decoder from it, for images of any resolution.

    The networks of the VQ-VAE (van den Oord et al., arXiv 1711.00937, section 4.1); no batch norm.

    Attributes:
      channels: channels of the encoder's stages, each halving the resolution; the decoder reverses
        them.
      residual_blocks: residual blocks at the grid's resolution, in each network.
      kernel: kernel size of the strided convolutions, even.
      activation: activation before each hidden layer.
    """

    channels: tuple[int, ...] = (64, 128)
    residual_blocks: int = 2
    kernel: int = 4
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        if self.kernel < 2 or self.kernel % 2:
            raise UserError(f"kernel must be even and >= 2, got {self.kernel}", "kernel")
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels")
        checks.at_least(self, 0, "residual_blocks")
        checks.depth(self, "residual_blocks")
        check_activation(self.activation)

    def encoder(self, outputs: int) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, h, w, outputs]."""
        return SpatialEncoder(
            self.channels, outputs, self.residual_blocks, self.kernel, self.activation
        )

    def decoder(self, shape: tuple[int, ...], outputs_per_dim: int = 1) -> nn.Module:
        """Build the network: [B, h, w, D] -> [B, H, W, C * outputs_per_dim]."""
        stage_sizes(shape, len(self.channels))
        shape = (*shape[:-1], shape[-1] * outputs_per_dim)
        return SpatialDecoder(
            shape, self.channels, self.residual_blocks, self.kernel, self.activation
        )
