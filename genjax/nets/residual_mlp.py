"""A residual MLP conditioned on a vector, for points."""

from __future__ import annotations

import math

import flax.linen as nn
import jax

from genjax import checks


class ResidualMLPDenoiser(nn.Module):
    """The network of ``ResidualMLP``: [B, ...], [B, E] -> the shape of the first."""

    width: int
    blocks: int
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, *, train: bool) -> jax.Array:
        """Return the prediction; ``train`` is ignored, as there is no dropout."""
        y = nn.Dense(self.width, name="stem")(x.reshape(len(x), -1))
        for i in range(self.blocks):
            h = nn.Dense(self.hidden, name=f"hidden_{i}")(y)
            h = h + nn.Dense(self.hidden, use_bias=False, name=f"vector_{i}")(vector)
            y = y + nn.Dense(self.width, name=f"output_{i}")(nn.gelu(h))
        zeros = nn.initializers.zeros
        return nn.Dense(math.prod(x.shape[1:]), kernel_init=zeros, name="output")(y).reshape(
            x.shape
        )


@checks.frozen
class ResidualMLP:
    """Residual blocks of two dense layers with GELU; the vector is added to the hidden layer.

    For points of few dimensions; other shapes are flattened. The output starts at 0.

    Attributes:
      width: width of the residual stream.
      blocks: number of blocks.
      hidden: width of a block's hidden layer.
    """

    width: int = 128
    blocks: int = 3
    hidden: int = 512

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "width", "blocks", "hidden")
        checks.depth(self, "blocks")

    def denoiser(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network: ``module(x [B, *shape], vector [B, E], train=...)`` -> [B, *shape]."""
        return ResidualMLPDenoiser(self.width, self.blocks, self.hidden)
