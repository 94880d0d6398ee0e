"""Encodes an image as a sequence of features for a text decoder to attend to.

A transformer over patches: Dosovitskiy et al., arXiv 2010.11929. Attention to convolutional
features: Xu et al., arXiv 1502.03044.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.attention import FlatDense, SelfAttention, check_heads
from genjax.nets.transformer.dit import encode_positions, patchify


class PatchGrid(nn.Module):
    """The network of ``Patches``, without parameters: [B, H, W, C] -> [B, H/P, W/P, P * P * C]."""

    side: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return the patches; ``train`` is ignored."""
        b, h, w, _ = x.shape
        if h % self.side or w % self.side:
            raise UserError(f"side must divide the image size {h}x{w}, got {self.side}", "side")
        return patchify(x, self.side).reshape(b, h // self.side, w // self.side, -1)


@checks.frozen
class Patches:
    """Raw square patches of an image, for the projection of an ``ImageEncoder``.

    Attributes:
      side: side of a patch in pixels; divides height and width.
    """

    side: int = 4

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "side")

    def grid(self) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, H/P, W/P, P * P * C]."""
        return PatchGrid(self.side)


class EncoderBlock(nn.Module):
    """A pre-norm block of self-attention and an MLP: [B, S, C] -> the same."""

    heads: int
    ratio: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        y = nn.LayerNorm(dtype=x.dtype, name="attention_norm")(x)
        x = x + SelfAttention(self.heads, name="attention")(y)
        y = nn.LayerNorm(dtype=x.dtype, name="hidden_norm")(x)
        y = nn.gelu(FlatDense(self.ratio * width, name="hidden")(y))
        return x + FlatDense(width, name="output")(y)


class PlaceEncoder(nn.Module):
    """The network of ``ImageEncoder``: [B, H, W, C] -> [B, S, width], a feature per place, row by
    row.
    """

    backbone: nn.Module
    width: int
    depth: int
    heads: int
    ratio: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        grid = self.backbone(x, train=train)
        b, h, w, _ = grid.shape
        y = FlatDense(self.width, name="projection")(grid.reshape(b, h * w, -1))
        y = y + jnp.asarray(encode_positions(h, w, self.width), y.dtype)[None]
        for i in range(self.depth):
            y = EncoderBlock(self.heads, self.ratio, name=f"block_{i}")(y)
        return nn.LayerNorm(dtype=y.dtype, name="norm")(y)


@checks.frozen
class ImageEncoder:
    """Features of the places of an image: a projected grid plus position encodings, then
    transformer blocks.

    With ``Patches`` it is a vision transformer. With a ``ResNet`` the grid is a classifier's
    backbone before pooling, whose parameters can be loaded: `StartFrom(run, (("^backbone/",
    "encoder/backbone/"),))`.

    Attributes:
      backbone: network that makes the grid: ``Patches``, or a ``ResNet`` without batch norm.
      width: feature width; a multiple of 4 and of ``heads``.
      depth: number of blocks; 0 for none.
      heads: attention heads.
      ratio: width of the MLP's hidden layer over ``width``.
    """

    backbone: Any = Patches()
    width: int = 128
    depth: int = 2
    heads: int = 4
    ratio: int = 4

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "width", "ratio")
        checks.at_least(self, 0, "depth")
        checks.depth(self, "depth")
        if self.width % 4:
            raise UserError(
                f"width must be a multiple of 4 (for its positions), got {self.width}", "width"
            )
        check_heads(self.width, self.heads)
        self.backbone.grid()  # refuses a backbone that has no grid

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network: ``module(x [B, *shape], train=...)`` -> [B, S, width].

        Raises:
          UserError: the shape is not [H, W, C]; later, from the network: images that the backbone
            does not fit.
        """
        if len(shape) != 3 or min(shape) < 1:
            raise UserError(f"an image encoder needs images [H, W, C], got shape {tuple(shape)}")
        return PlaceEncoder(self.backbone.grid(), self.width, self.depth, self.heads, self.ratio)
