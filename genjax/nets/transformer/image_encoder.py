"""Images as a sequence of features, a place each: what a decoder of text attends to.

Patches through a transformer: Dosovitskiy et al., arXiv 2010.11929. Convolutional features of
places: Xu et al., arXiv 1502.03044.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.attention import FlatDense, SelfAttention, check_heads
from genjax.nets.transformer.dit import patchify, positions


class PatchGrid(nn.Module):
    """Squares of an image: [B, H, W, C] -> [B, H/P, W/P, P * P * C]; it has no parameters."""

    side: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`train` changes nothing."""
        b, h, w, _ = x.shape
        if h % self.side or w % self.side:
            raise UserError(f"patches of {self.side} do not divide an image of {h}x{w}")
        return patchify(x, self.side).reshape(b, h // self.side, w // self.side, -1)


@checks.frozen
class Patches:
    """Squares of an image as they are, for the projection of an `ImageEncoder`.

    Attributes:
        side: Of the squares; divides height and width.
    """

    side: int = 4

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "side")

    def grid(self) -> nn.Module:
        """Build the network: [B, H, W, C] -> [B, H/P, W/P, P * P * C]."""
        return PatchGrid(self.side)


class EncoderBlock(nn.Module):
    """Attention and a perceptron, each normalised before and added to what it read: [B, S, C]
    -> the same.
    """

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
    """[B, H, W, C] -> [B, S, width], a feature a place, row by row."""

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
        y = y + jnp.asarray(positions(h, w, self.width), y.dtype)[None]
        for i in range(self.depth):
            y = EncoderBlock(self.heads, self.ratio, name=f"block_{i}")(y)
        return nn.LayerNorm(dtype=y.dtype, name="norm")(y)


@checks.frozen
class ImageEncoder:
    """Features of the places of an image: a grid, projected, with embeddings of the positions, then
    blocks of attention.

    With `Patches` it is a vision transformer. With a `ResNet` the grid is that of a classifier's
    backbone before its pooling, whose parameters fit in: `StartFrom(run, (("^backbone/",
    "encoder/backbone/"),))`.

    Attributes:
        backbone: What makes the grid, `Patches` or a `ResNet` without batch normalisation.
        width: Of a feature; a multiple of 4, and of the heads.
        depth: Blocks; 0 for none.
        heads: Of the attention.
        ratio: Width of a block's hidden layer over `width`.
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
                "the width of an image encoder is a multiple of 4 for its positions, not "
                f"{self.width}"
            )
        check_heads(self.width, self.heads)
        self.backbone.grid()  # refuses a backbone that gives none

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """`module(x [B, *shape], train=...)` -> [B, S, width]; it refuses images that the backbone
        does not fit.

        Raises:
            UserError: the shape is not [H, W, C].
        """
        if len(shape) != 3 or min(shape) < 1:
            raise UserError(f"an image encoder needs images [H, W, C], not shape {tuple(shape)}")
        return PlaceEncoder(self.backbone.grid(), self.width, self.depth, self.heads, self.ratio)
