"""A transformer over patches conditioned on a vector (Peebles & Xie, arXiv 2212.09748)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.attention import FlatDense, SelfAttention, check_heads


def patchify(x: jax.Array, patch: int) -> jax.Array:
    """Split an image into square patches, row by row: [B, H, W, C] -> [B, H/P * W/P, P * P * C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c).swapaxes(2, 3)
    return x.reshape(b, (h // patch) * (w // patch), patch * patch * c)


def unpatchify(tokens: jax.Array, patch: int, shape: tuple[int, ...]) -> jax.Array:
    """Invert ``patchify``: [B, T, P * P * C] -> [B, *shape]."""
    h, w, c = shape
    x = tokens.reshape(len(tokens), h // patch, w // patch, patch, patch, c).swapaxes(2, 3)
    return x.reshape(len(tokens), h, w, c)


def encode_positions(h: int, w: int, width: int) -> np.ndarray:
    """Return sines and cosines of the row and of the column, half of the width for each: float32 [h
    * w, width].
    """
    frequencies = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    row, column = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (row, column)]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], -1).astype(np.float32)


def _modulate(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """Normalise [B, T, D] over D, then scale and shift it by [B, D]."""
    x = nn.LayerNorm(use_bias=False, use_scale=False, epsilon=1e-6, dtype=x.dtype)(x)
    return x * (1 + scale)[:, None] + shift[:, None]


class DiTBlock(nn.Module):
    """Attention and an MLP, each gated by the vector; the gates start at 0: [B, T, D], [B, E] ->
    [B, T, D].
    """

    heads: int
    ratio: int

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array) -> jax.Array:
        width = x.shape[-1]
        parts = jnp.split(FlatDense(6 * width, zero=True, name="modulation")(vector), 6, axis=-1)
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = parts
        y = SelfAttention(self.heads, name="attention")(_modulate(x, shift_a, scale_a))
        x = x + gate_a[:, None] * y
        y = FlatDense(self.ratio * width, name="hidden")(_modulate(x, shift_b, scale_b))
        return x + gate_b[:, None] * FlatDense(width, name="output")(nn.gelu(y))


class DiTDenoiser(nn.Module):
    """The network of ``DiT``: [B, *shape], [B, E] -> [B, *shape]."""

    shape: tuple[int, ...]
    patch: int
    width: int
    depth: int
    heads: int
    ratio: int

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, *, train: bool) -> jax.Array:
        """Return the prediction; ``train`` is ignored, as there is no dropout."""
        h, w, c = self.shape
        y = FlatDense(self.width, name="stem")(patchify(x, self.patch))
        y = (
            y
            + jnp.asarray(encode_positions(h // self.patch, w // self.patch, self.width), y.dtype)[
                None
            ]
        )
        for i in range(self.depth):
            y = DiTBlock(self.heads, self.ratio, name=f"block_{i}")(y, vector)
        shift, scale = jnp.split(
            FlatDense(2 * self.width, zero=True, name="modulation")(vector), 2, axis=-1
        )
        y = FlatDense(self.patch**2 * c, zero=True, name="output")(_modulate(y, shift, scale))
        return unpatchify(y, self.patch, self.shape)


@checks.frozen
class DiT:
    """A vision transformer with adaptive layer norm whose blocks start as identities (adaLN-Zero).

    Attributes:
      patch: side of the square patches; divides height and width.
      width: token width; a multiple of 4 and of ``heads``.
      depth: number of blocks.
      heads: attention heads.
      ratio: width of the MLP's hidden layer over ``width``.
    """

    patch: int = 2
    width: int = 384
    depth: int = 12
    heads: int = 6
    ratio: int = 4

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "patch", "width", "depth", "ratio")
        checks.depth(self, "depth")
        if self.width % 4:
            raise UserError(
                f"width must be a multiple of 4 (for its positions), got {self.width}", "width"
            )
        check_heads(self.width, self.heads)

    def denoiser(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network: ``module(x [B, H, W, C], vector [B, E], train=...)`` -> [B, H, W, C].

        Raises:
          UserError: the shape is not [H, W, C], or not whole patches.
        """
        if len(shape) != 3 or min(shape) < 1:
            raise UserError(f"a DiT needs images [H, W, C], got shape {tuple(shape)}")
        if shape[0] % self.patch or shape[1] % self.patch:
            raise UserError(
                f"patch must divide the image size {shape[0]}x{shape[1]}, got {self.patch}", "patch"
            )
        return DiTDenoiser(shape, self.patch, self.width, self.depth, self.heads, self.ratio)
