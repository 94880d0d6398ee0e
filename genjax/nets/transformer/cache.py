"""Keys and values of the tokens seen so far, so that each new one costs one row of attention."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class LayerCache(NamedTuple):
    """The keys and values of one layer; slot s holds the token at position s of its row.

    Rows and heads share one axis: XLA would write an array twice if attention had to reshape it.

    Attributes:
      keys: [B*K, S, D], after the rotary positions.
      values: [B*K, S, D].
      memory_keys: [B*K, M, D] of cross-attention; None without it.
      memory_values: [B*K, M, D], likewise.
    """

    keys: jax.Array
    values: jax.Array
    memory_keys: jax.Array | None = None
    memory_values: jax.Array | None = None


class Memory(NamedTuple):
    """The features that cross-attention reads.

    Attributes:
      features: [B, M, C].
      mask: [B, M], 0 at padding; None if there is none. For packed rows without a cache, int32: the
        segment that reads each feature.
    """

    features: jax.Array
    mask: jax.Array | None = None


class Cache(NamedTuple):
    """The layers' caches and the length of each row.

    Attributes:
      layers: a ``LayerCache`` per layer, or a single one with a leading axis L where layers are
        scanned.
      lengths: int32 [B], tokens in each row, which is the position of the next one.
      memory_mask: bool [B, M], False at padding; None without cross-attention.
    """

    layers: Any
    lengths: jax.Array
    memory_mask: jax.Array | None = None

    @property
    def capacity(self) -> int:
        """The number of tokens that fit in a row."""
        return (self.layers if isinstance(self.layers, LayerCache) else self.layers[0]).keys.shape[
            -2
        ]

    def take(self, rows: jax.Array) -> Cache:
        """Return the given rows [N], in this order and possibly repeated, as beam search needs."""
        batch = len(self.lengths)

        def taken(a: jax.Array) -> jax.Array:  # [..., B*K, S, D]
            *first, heads, slots, width = a.shape
            parts = a.reshape(*first, batch, heads // batch, slots, width)
            return jnp.take(parts, rows, axis=-4).reshape(*first, -1, slots, width)

        layers = jax.tree.map(taken, self.layers)
        mask = None if self.memory_mask is None else self.memory_mask[rows]
        return Cache(layers, self.lengths[rows], mask)

    def put(self, rows: jax.Array, other: Cache) -> Cache:
        """With the rows [N] of ``other`` in the places ``rows`` [N]; a place past the last row is
        dropped. Both have the same capacity.
        """
        batch, count = len(self.lengths), len(other.lengths)

        def placed(a: jax.Array, b: jax.Array) -> jax.Array:  # [..., B*K, S, D]
            *first, heads, slots, width = a.shape
            parts = a.reshape(*first, batch, heads // batch, slots, width)
            new = b.reshape(*first, count, heads // batch, slots, width)
            index = (slice(None),) * len(first) + (rows,)
            return parts.at[index].set(new.astype(a.dtype), mode="drop").reshape(a.shape)

        layers = jax.tree.map(placed, self.layers, other.layers)
        lengths = self.lengths.at[rows].set(other.lengths, mode="drop")
        mask = self.memory_mask
        if mask is not None and other.memory_mask is not None:
            mask = mask.at[rows].set(other.memory_mask, mode="drop")
        return Cache(layers, lengths, mask)

    def rewind(self, tokens: jax.Array) -> Cache:
        """Drop the last ``tokens`` [B] of each row; slots past the end of a row are never read."""
        return self._replace(lengths=self.lengths - tokens)


def write(cache: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
    """Write ``new`` [B, K, T, D] into ``cache`` [B*K, S, D] at ``slots`` [B, T]; slots out of range
    are dropped.

    A single token is clipped to the last slot instead: nothing past the end of a row is read, and
    XLA can write it in place.
    """
    b, kv, t, d = new.shape
    new = new.astype(cache.dtype).reshape(b * kv, t, d)
    if t == 1 and b == 1:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, slots[0, 0], 1)
    heads, slots = jnp.arange(b * kv), slots.repeat(kv, 0)
    if t == 1:
        return cache.at[heads, slots[:, 0]].set(new[:, 0], mode="clip", unique_indices=True)
    return cache.at[heads[:, None], slots].set(new, mode="drop")
