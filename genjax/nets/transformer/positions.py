"""Position encodings: sinusoids added to tokens, or queries and keys rotated by an angle."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from genjax import checks
from genjax.errors import UserError


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
    """Rotary positions (Su et al., arXiv 2104.09864), with entry i of the turned part of a head
    paired with entry i + half of it.

    Attributes:
      base: the slowest pair turns by base^(2/D - 1) radians per token.
      factor: factor by which the context is stretched; 1 for none. All angles shrink by it
        (position interpolation, Chen et al., arXiv 2306.15595), unless ``trained`` is given.
      trained: context before stretching, in tokens. With it only the angles of slow pairs shrink:
        those that turn fewer than ``low`` times in it by the whole factor, those that turn more
        than ``high`` times not at all (Llama 3, arXiv 2407.21783).
      low: turns, see ``trained``.
      high: turns, see ``trained``.
      share: share of a head's entries that are turned, the first ones (GPT-J, GPT-NeoX); the rest
        know no position.
      yarn: whether the angles between ``low`` and ``high`` shrink in equal steps from pair to pair
        instead of by their turns (YaRN, Peng et al., arXiv 2309.00071, whose turns are 1 and 32).
      whole_pairs: whether the first and last of these pairs are rounded outwards; with ``yarn``.
      short: numbers that divide the angles, one per pair (LongRoPE, Ding et al., arXiv 2402.13753),
        where all positions are below ``trained``; empty for none.
      long: the same where some position is beyond.
      gain: factor on the turned entries of queries and keys; None for 1, or with ``yarn`` for
        0.1 ln(factor) + 1.
    """

    base: float = 10_000.0
    factor: float = 1.0
    trained: int | None = None
    low: float = 1.0
    high: float = 4.0
    share: float = 1.0
    yarn: bool = False
    whole_pairs: bool = True
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    gain: float | None = None

    def __post_init__(self) -> None:
        checks.above(self, 1, "base")
        checks.at_least(self, 1, "factor")
        checks.at_least(self, 1, "trained")
        checks.above(self, 0, "low", "share", "gain")
        checks.most(self, 1, "share")
        checks.ordered(self, "low", "high", strictly=True)
        if (self.yarn or self.short) and self.trained is None:
            raise UserError("trained must be given with yarn or short, got None", "trained")
        if len(self.short) != len(self.long):
            raise UserError(
                f"long must have as many numbers as short, {len(self.short)}, got {len(self.long)}",
                "long",
            )
        if not all(number > 0 for number in self.short + self.long):
            raise UserError("short and long must be > 0 each", "short")
        if self.short and (self.yarn or self.factor != 1):
            raise UserError(
                f"factor must be 1, without yarn, where short is given, got {self.factor}",
                "factor",
            )

    @property
    def turned_gain(self) -> float:
        """The factor on turned entries."""
        if self.gain is not None:
            return self.gain
        return 0.1 * math.log(self.factor) + 1 if self.yarn else 1.0

    def turned_width(self, head_width: int) -> int:
        """Return how many entries of a head are turned.

        Raises:
          UserError: they are not whole pairs, or not as many as ``short`` has numbers.
        """
        width = int(head_width * self.share)
        if width % 2 or not width:
            raise UserError(
                f"share must turn whole pairs of a head of {head_width} entries, got {self.share}: "
                f"{width} entries",
                "share",
            )
        if self.short and len(self.short) != width // 2:
            raise UserError(
                f"short must have {width // 2} numbers, one per pair, got {len(self.short)}",
                "short",
            )
        return width

    def frequencies(self, head_width: int, beyond: bool = False) -> np.ndarray:
        """Return the radians per token of each pair: float64 [pairs].

        Args:
          head_width: entries of a head, of which ``share`` are turned.
          beyond: whether some position is beyond ``trained``, see ``long``.
        """
        width = self.turned_width(head_width)
        pairs = np.arange(width // 2)
        plain = self.base ** (-2 * pairs / width)
        if self.short:
            return plain / np.asarray(self.long if beyond else self.short)
        if self.trained is None:
            return plain / self.factor
        if self.yarn:
            first, last = (self._find_pair(turns, width) for turns in (self.high, self.low))
            if self.whole_pairs:
                first, last = math.floor(first), math.ceil(last)
            first, last = max(first, 0), min(last, width - 1)
            step = 1e-3 if first == last else last - first
            kept = 1 - np.clip((pairs - first) / step, 0, 1)
        else:
            turns = self.trained * plain / (2 * math.pi)
            kept = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
        return plain * (kept + (1 - kept) / self.factor)

    def _find_pair(self, turns: float, width: int) -> float:
        """Return which pair, between two whole ones, turns so often in the trained context."""
        assert self.trained is not None
        return width * math.log(self.trained / (turns * 2 * math.pi)) / (2 * math.log(self.base))

    def make_table(
        self, positions: jax.Array | np.ndarray, head_width: int, length: int | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Return cosines and sines of the angles at positions [B, T], for all heads: float32 [B, 1,
        T, pairs] each.

        Args:
          positions: positions; as a NumPy array they are constants of the compiled function.
          head_width: entries of a head.
          length: number of positions that decides between ``short`` and ``long``: the capacity of a
            cache, as its keys cannot be turned again. None for the highest position plus one.
        """
        gain = self.turned_gain
        if isinstance(positions, np.ndarray):  # known while tracing: constants
            count = int(positions.max()) + 1 if length is None else length
            beyond = self.trained is not None and count > self.trained
            angles = positions[..., None] * self.frequencies(head_width, beyond)[None, None]
            cos, sin = gain * np.cos(angles), gain * np.sin(angles)
            return jnp.asarray(cos, jnp.float32)[:, None], jnp.asarray(sin, jnp.float32)[:, None]
        turned = positions[..., None].astype(jnp.float32) * self._choose(
            positions, head_width, length
        )
        cos, sin = jnp.cos(turned)[:, None], jnp.sin(turned)[:, None]
        return (cos, sin) if gain == 1 else (gain * cos, gain * sin)

    def _choose(self, positions: jax.Array, head_width: int, length: int | None) -> jax.Array:
        """Return the frequencies, float32 [1, 1, pairs], for positions known only when run."""
        near, far = (
            jnp.asarray(self.frequencies(head_width, beyond)[None, None], jnp.float32)
            for beyond in (False, True)
        )
        if not self.short or self.trained is None:
            return near
        if length is not None:
            return far if length > self.trained else near
        return jnp.where(positions.max() >= self.trained, far, near)


def rotate(x: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotate the first entries of heads [B, H, T, D], two per angle of ``Rotary.make_table``; the
    rest stay.
    """
    cos, sin = (part.astype(x.dtype) for part in table)
    pairs = cos.shape[-1]
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    parts = [a * cos - b * sin, b * cos + a * sin]
    return jnp.concatenate([*parts, rest] if rest.shape[-1] else parts, -1)
