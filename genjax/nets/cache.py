"""Keys and values of the tokens seen so far, so that each new one costs one row of attention."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class LayerCache(NamedTuple):
    """What one layer keeps; entry s of the slots is the token at position s of its row.

    Attributes:
        keys: [B, K, S, D], rotated.
        values: [B, K, S, D].
        memory_keys: [B, K, M, D] of cross-attention; None without it.
        memory_values: The same.
    """

    keys: jax.Array
    values: jax.Array
    memory_keys: jax.Array | None = None
    memory_values: jax.Array | None = None


class Cache(NamedTuple):
    """The layers' caches, and how far each row is.

    Attributes:
        layers: A tuple of `LayerCache`, or one with a leading axis L where layers are scanned.
        lengths: int32 [B], tokens of each row so far, which is the position of its next one.
        memory_mask: bool [B, M], where the memory is real; None without cross-attention.
    """

    layers: Any
    lengths: jax.Array
    memory_mask: jax.Array | None = None

    @property
    def capacity(self) -> int:
        """Tokens that a row has room for."""
        return (self.layers if isinstance(self.layers, LayerCache) else self.layers[0]).keys.shape[-2]

    @property
    def scanned(self) -> bool:
        """Whether the layers lie in one array, the rows on its second axis."""
        return isinstance(self.layers, LayerCache)


def take(cache: Cache, rows: jax.Array) -> Cache:
    """The rows [N] of a cache, in this order and as often as they are named: what a beam search does."""
    axis = 1 if cache.scanned else 0
    layers = jax.tree.map(lambda a: jnp.take(a, rows, axis), cache.layers)
    mask = None if cache.memory_mask is None else cache.memory_mask[rows]
    return Cache(layers, cache.lengths[rows], mask)


def rewind(cache: Cache, tokens: jax.Array) -> Cache:
    """A cache without the last `tokens` [B] of each row: what stands in the slots past its end is never read."""
    return cache._replace(lengths=cache.lengths - tokens)


def write(cache: jax.Array, new: jax.Array, slots: jax.Array) -> jax.Array:
    """`new` [B, K, T, D] put into `cache` [B, K, S, D] at `slots` [B, T]; those that are no slot are dropped."""
    rows = jnp.arange(len(new))[:, None]
    return cache.at[rows, :, slots].set(new.swapaxes(1, 2).astype(cache.dtype), mode="drop")
