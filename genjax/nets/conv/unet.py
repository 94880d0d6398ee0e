"""A U-Net conditioned on a vector, for images and for signals."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.conv.attention import FlatDense, SelfAttention
from genjax.nets.conv.conv3 import Conv3
from genjax.nets.conv.group_norm import GroupNorm


class ResidualBlock(nn.Module):
    """Two convolutions added to the input, the second initialised to 0: [B, *S, C], [B, E] -> [B,
    *S, features].

    The vector scales and shifts the output of the second norm, as in arXiv 2105.05233 (section
    3.1).
    """

    features: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, *, train: bool) -> jax.Array:
        y = Conv3(self.features, name="conv_a")(GroupNorm(name="norm_a")(x))
        scale, shift = jnp.split(nn.Dense(2 * self.features, name="film")(vector), 2, axis=-1)
        y = GroupNorm(name="norm_b")(y, scale, shift)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = Conv3(self.features, zero=True, name="conv_b")(y)
        return y + (
            x if x.shape[-1] == self.features else FlatDense(self.features, name="short")(x)
        )


class AttentionBlock(nn.Module):
    """Self-attention over all places, added to the input and initialised to 0: [B, *S, C] -> the
    same.
    """

    head_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, *_, c = x.shape
        y = GroupNorm(silu=False, name="norm")(x).reshape(b, -1, c)
        return x + SelfAttention(c // self.head_dim, zero=True, name="attention")(y).reshape(
            x.shape
        )


class Halve(nn.Module):
    """A linear map of each block of 2 places an axis: [B, *S, C] -> [B, *ceil(S / 2), features];
    odd sizes are padded with a zero.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), *((0, size % 2) for size in x.shape[1:-1]), (0, 0)))
        b, *sizes, c = x.shape
        x = x.reshape(b, *(n for size in sizes for n in (size // 2, 2)), c)
        axes = len(sizes)
        x = x.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
        return FlatDense(self.features, name="linear")(x.reshape(*x.shape[: axes + 1], -1))


class UNetDenoiser(nn.Module):
    """The network of ``UNet``: [B, *S, C], [B, E] -> [B, *S, C]."""

    channels: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    head_dim: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, *, train: bool) -> jax.Array:
        def block(x: jax.Array, features: int, name: str) -> jax.Array:
            x = ResidualBlock(features, self.dropout, name=f"block_{name}")(x, vector, train=train)
            if x.shape[1] in self.attention and "middle" not in name:
                x = AttentionBlock(self.head_dim, name=f"attention_{name}")(x)
            return x

        outputs = x.shape[-1]
        x = Conv3(self.channels[0], name="stem")(x)
        kept = [x]
        for stage, features in enumerate(self.channels):
            if stage:
                x = Halve(x.shape[-1], name=f"down_{stage}")(x)
                kept.append(x)
            for i in range(self.blocks):
                x = block(x, features, f"down_{stage}_{i}")
                kept.append(x)
        x = block(x, self.channels[-1], "middle_a")
        x = AttentionBlock(self.head_dim, name="attention_middle")(x)
        x = block(x, self.channels[-1], "middle_b")
        for stage, features in reversed(list(enumerate(self.channels))):
            for i in range(self.blocks + 1):
                x = block(jnp.concatenate([x, kept.pop()], -1), features, f"up_{stage}_{i}")
            if stage:
                sizes = kept[-1].shape[1:-1]
                x = Conv3(features, up=True, name=f"up_{stage}")(x)
                x = x[(slice(None), *(slice(size) for size in sizes))]
        return Conv3(outputs, zero=True, name="output")(GroupNorm(name="norm_output")(x))


@checks.frozen
class UNet:
    """The U-Net of diffusion models (Ho et al., arXiv 2006.11239; Dhariwal & Nichol, arXiv
    2105.05233).

    Residual blocks at each resolution, which is halved on the way down and doubled on the way up,
    with skip connections between the two. For images [H, W, C] and signals [T, C] of any size; the
    output starts at 0.

    Attributes:
      channels: channels of the stages, each at half the resolution of the one before, rounded up.
      blocks: residual blocks per stage on the way down; there is one more on the way up.
      attention: resolutions (heights, or lengths of signals) with self-attention after each block;
        the lowest always has it once, in the middle.
      head_dim: channels per attention head; divides the channels where there is attention.
      dropout: share of the activations inside a block dropped in training.
    """

    channels: tuple[int, ...] = (64, 128, 128)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    head_dim: int = 8
    dropout: float = 0.0

    def __post_init__(self) -> None:
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels")
        checks.at_least(self, 1, "blocks", "head_dim")
        checks.depth(self, "blocks")
        checks.share(self, "dropout")
        if self.channels[-1] % self.head_dim:
            raise UserError(
                f"head_dim must be a divisor of {self.channels[-1]} (the last channels), got "
                f"{self.head_dim}",
                "head_dim",
            )

    def denoiser(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network: ``module(x [B, *shape], vector [B, E], train=...)`` -> [B, *shape].

        Raises:
          UserError: the shape is not [H, W, C] or [T, C], or too small for the stages; no stage has
            a resolution in ``attention``.
        """
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise UserError(
                f"a UNet needs images [H, W, C] or signals [T, C], got shape {tuple(shape)}"
            )
        sizes = [shape[:-1]]
        for stage in range(1, len(self.channels)):
            if max(sizes[-1]) == 1:
                raise UserError(
                    f"channels must have at most {stage} entries for a size of {shape[:-1]}, got "
                    f"{len(self.channels)}"
                )
            sizes.append(tuple((size + 1) // 2 for size in sizes[-1]))
        heights = [size[0] for size in sizes]
        if missing := set(self.attention) - set(heights):
            raise UserError(
                f"attention must be among the resolutions {heights}, got {min(missing)}",
                "attention",
            )
        for height, channels in zip(heights, self.channels, strict=True):
            if height in self.attention and channels % self.head_dim:
                raise UserError(
                    f"head_dim must be a divisor of {channels} (channels with attention), got "
                    f"{self.head_dim}",
                    "head_dim",
                )
        return UNetDenoiser(self.channels, self.blocks, self.attention, self.head_dim, self.dropout)
