"""Position encodings: sinusoids added to tokens, or queries and keys rotated by an angle."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks


def encode_sinusoids(positions: jax.Array, width: int) -> jax.Array:
    """Return sines, then cosines, with wavelengths from 2 pi to 20,000 pi (arXiv 1706.03762): [...,
    T] -> [..., T, width].
    """
    frequencies = jnp.asarray(10_000.0 ** (-np.arange(width // 2) / (width // 2)), jnp.float32)
    angles = positions[..., None].astype(jnp.float32) * frequencies.reshape(
        (1,) * positions.ndim + (-1,)
    )
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


@checks.frozen
class Rotary:
    """Rotary positions (Su et al., arXiv 2104.09864), with entry i of a head paired with entry i +
    D/2.

    Attributes:
      base: the slowest pair turns by base^(2/D - 1) radians per token.
      factor: factor by which the context is stretched; 1 for none. All angles shrink by it
        (position interpolation, Chen et al., arXiv 2306.15595), unless ``trained`` is given.
      trained: context before stretching, in tokens. With it only the angles of slow pairs shrink:
        those that turn fewer than ``low`` times in it by the whole factor, those that turn more
        than ``high`` times not at all (Llama 3, arXiv 2407.21783).
      low: turns, see ``trained``.
      high: turns, see ``trained``.
    """

    base: float = 10_000.0
    factor: float = 1.0
    trained: int | None = None
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self) -> None:
        checks.above(self, 1, "base")
        checks.at_least(self, 1, "factor")
        checks.at_least(self, 1, "trained")
        checks.above(self, 0, "low")
        checks.ordered(self, "low", "high", strictly=True)

    def frequencies(self, head_width: int) -> np.ndarray:
        """Return the radians per token of each pair: float64 [head_width / 2]."""
        plain = self.base ** (-2 * np.arange(head_width // 2) / head_width)
        if self.trained is None:
            return plain / self.factor
        turns = self.trained * plain / (2 * math.pi)
        kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return plain * (kept + (1 - kept) / self.factor)

    def make_table(
        self, positions: jax.Array | np.ndarray, head_width: int
    ) -> tuple[jax.Array, jax.Array]:
        """Return cosines and sines of the angles at positions [B, T], for all heads: float32 [B, 1,
        T, D/2] each.
        """
        frequencies = self.frequencies(head_width)[None, None]
        if isinstance(positions, np.ndarray):  # known while tracing: constants
            angles = positions[..., None] * frequencies
            cos, sin = np.cos(angles), np.sin(angles)
            return jnp.asarray(cos, jnp.float32)[:, None], jnp.asarray(sin, jnp.float32)[:, None]
        turned = positions[..., None].astype(jnp.float32) * jnp.asarray(frequencies, jnp.float32)
        return jnp.cos(turned)[:, None], jnp.sin(turned)[:, None]


def rotate(x: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotate heads [B, H, T, D] by the angles of ``Rotary.make_table``."""
    cos, sin = (part.astype(x.dtype) for part in table)
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
