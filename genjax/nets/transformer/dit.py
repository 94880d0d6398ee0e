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


def _embed_patches(x: jax.Array, patch: int, width: int) -> jax.Array:
    """Embed the patches of an image and their places, in the module that calls it: [B, H, W, C] ->
    [B, T, width].
    """
    h, w = (size // patch for size in x.shape[1:3])
    y = FlatDense(width, name="stem")(patchify(x, patch))
    return y + jnp.asarray(encode_positions(h, w, width), y.dtype)[None]


class DiTDenoiser(nn.Module):
    """The network of ``DiT``: [B, *shape], [B, E] -> [B, *shape].

    ``control`` [B, T, D] is added after each of the first blocks, as many as there are.
    """

    shape: tuple[int, ...]
    patch: int
    width: int
    depth: int
    heads: int
    ratio: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        vector: jax.Array,
        control: tuple[jax.Array, ...] = (),
        *,
        train: bool,
    ) -> jax.Array:
        """Return the prediction; ``train`` is ignored, as there is no dropout."""
        y = _embed_patches(x, self.patch, self.width)
        for i in range(self.depth):
            y = DiTBlock(self.heads, self.ratio, name=f"block_{i}")(y, vector)
            y = y + control[i] if i < len(control) else y
        shift, scale = jnp.split(
            FlatDense(2 * self.width, zero=True, name="modulation")(vector), 2, axis=-1
        )
        c = self.shape[-1]
        y = FlatDense(self.patch**2 * c, zero=True, name="output")(_modulate(y, shift, scale))
        return unpatchify(y, self.patch, self.shape)


class DiTControl(nn.Module):
    """The control of a ``DiT`` by a sketch: [B, *shape], [B, E], [B, H, W, S] -> [B, T, D] for each
    of the copied blocks.

    Blocks of the names and shapes of the denoiser's, to be started as their copies. The sketch
    enters, and the outputs leave, through maps that are initialised to 0 (ControlNet: Zhang et al.,
    arXiv 2302.05543; for a transformer: Chen et al., arXiv 2401.05252).
    """

    patch: int
    width: int
    copied: int
    heads: int
    ratio: int

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, sketch: jax.Array) -> tuple[jax.Array, ...]:
        y = _embed_patches(x, self.patch, self.width)
        hint = nn.silu(FlatDense(self.width, name="sketch")(patchify(sketch, self.patch)))
        y = y + FlatDense(self.width, zero=True, name="enter")(hint)
        outputs = []
        for i in range(self.copied):
            y = DiTBlock(self.heads, self.ratio, name=f"block_{i}")(y, vector)
            outputs.append(FlatDense(self.width, zero=True, name=f"leave_{i}")(y))
        return tuple(outputs)


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

    def controller(self, shape: tuple[int, ...], copied: int) -> nn.Module:
        """Build the control of the network by a sketch: ``module(x [B, H, W, C], vector [B, E],
        sketch [B, H, W, S])`` -> [B, T, D] for each of ``copied`` blocks.

        Raises:
          UserError: the network has fewer blocks.
        """
        if not 1 <= copied <= self.depth:
            raise UserError(
                f"copied must be from 1 to {self.depth} (the blocks of the base), got {copied}",
                "copied",
            )
        return DiTControl(self.patch, self.width, copied, self.heads, self.ratio)
