"""A generator and a discriminator that grow with the resolution (Karras et al., arXiv
1710.10196).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.nets.conv.conv import DownConv, UpConv, stage_sizes
from genjax.nets.mlp import activate


def double_size(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Repeat each pixel as a 2x2 block, and crop: [B, h, w, C] -> [B, *size, C]."""
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : size[0], : size[1]]


def upsample(x: jax.Array, sizes: tuple[tuple[int, int], ...]) -> jax.Array:
    """Double images of the first size until they have the last."""
    for size in sizes[1:]:
        x = double_size(x, size)
    return x


def downsample(x: jax.Array, times: int) -> jax.Array:
    """Halve images this many times by the means of 2x2 blocks; an odd edge averages the
    pixels that exist.
    """
    for _ in range(times):
        x = nn.avg_pool(x, (2, 2), (2, 2), "SAME", count_include_pad=False)
    return x


def _pixel_norm(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-8)


class ProgressiveGeneratorNet(nn.Module):
    """[B, Z] -> images [B, *sizes[stage], C] of one stage; ``fade`` in [0, 1] blends in the new
    resolution.
    """

    sizes: tuple[tuple[int, int], ...]  # (H, W) of the stages, low to high
    image_channels: int
    channels: tuple[int, ...]

    @nn.compact
    def __call__(
        self, z: jax.Array, *, train: bool, stage: int, fade: jax.Array | float = 1.0
    ) -> jax.Array:
        last = len(self.sizes) - 1 if self.is_initializing() else stage
        h, w = self.sizes[0]
        x = nn.Dense(h * w * self.channels[0], name="stem")(_pixel_norm(z)).reshape(
            -1, h, w, self.channels[0]
        )
        images = []
        for i, size in enumerate(self.sizes[: last + 1]):
            if i:
                x = UpConv(self.channels[i], name=f"up_{i}")(x)[:, : size[0], : size[1]]
            x = _pixel_norm(activate("leaky_relu", x))
            if self.is_initializing() or i >= last - 1:
                images.append(nn.Conv(self.image_channels, (1, 1), name=f"image_{i}")(x))
        if last == 0:
            return images[0]
        fade = jnp.asarray(fade, x.dtype)
        return fade * images[-1] + (1 - fade) * double_size(images[-2], self.sizes[last])


class ProgressiveFeatures(nn.Module):
    """[B, h, w, C] of any stage -> features [B, F]; ``fade`` in [0, 1] blends in the newest
    layer.
    """

    channels: tuple[int, ...]  # of the stages, low to high
    sizes: tuple[tuple[int, int], ...]

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None = None,
        *,
        train: bool,
        fade: jax.Array | float = 1.0,
    ) -> jax.Array:
        def seen(x: jax.Array, stage: int) -> jax.Array:
            return activate(
                "leaky_relu", nn.Conv(self.channels[stage], (1, 1), name=f"see_{stage}")(x)
            )

        stage = self.sizes.index((x.shape[1], x.shape[2]))
        fade = jnp.asarray(fade, x.dtype)
        h = seen(x, stage)
        for i in range(stage, 0, -1):
            h = activate("leaky_relu", DownConv(self.channels[i - 1], name=f"down_{i}")(h))
            if i == stage or self.is_initializing():
                x = downsample(x, 1)
                h = fade * h + (1 - fade) * seen(x, i - 1)
        h = activate("leaky_relu", nn.Conv(self.channels[0], (3, 3), name="last")(h))
        return h.reshape(h.shape[0], -1)


@checks.frozen
class Progressive:
    """A generator and a discriminator whose resolution grows: each stage doubles that of the one
    before.

    Attributes:
      channels: channels of the stages, from the lowest resolution to that of the data.
    """

    channels: tuple[int, ...] = (128, 64, 32)

    def __post_init__(self) -> None:
        checks.some(self, "channels")
        checks.at_least(self, 1, "channels")

    def sizes(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Return (H, W) of the stages, from the lowest to that of data of ``shape`` [H, W, C]."""
        return tuple(reversed(stage_sizes(shape, len(self.channels) - 1)))

    def generator(self, shape: tuple[int, ...], axis: str | None = None) -> nn.Module:
        """Build the network: [B, Z] -> images of a stage; ``shape`` is that of the data."""
        return ProgressiveGeneratorNet(self.sizes(shape), shape[-1], self.channels)

    def features(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the backbone: images of a stage -> [B, F]; ``shape`` is that of the data."""
        return ProgressiveFeatures(self.channels, self.sizes(shape))
