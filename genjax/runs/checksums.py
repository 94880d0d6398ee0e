"""Checksums of arrays and of JSON values.

Checksums of arrays do not depend on how they are distributed over devices.
"""

from __future__ import annotations

import functools
import json
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genjax import trees

LARGE = 2**18  # number of elements from which compiling for the device pays off


def hash_json(value: Any) -> str:
    """Return the CRC-32 of a JSON value, which is the same after writing and reading it."""
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def hash_arrays(tree: Any) -> dict[str, str]:
    """Return for every leaf, by path, ``float32[2, 3] 0a1b2c3d``: dtype, shape and a checksum of
    all bits.

    The checksum is the sum modulo 2^32 of a hash of each element and its position. A sum does not
    depend on the order, so every device can add up what it holds, processes that see only a part of
    an array agree, and so do arrays on different numbers of devices. A single changed element
    always changes the checksum, because the hash at each position is one-to-one.
    """
    leaves = trees.named_leaves(tree)
    words = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for _, leaf in leaves]
    # For small arrays, complete in this process, compiling takes longer than fetching them.
    parts = jax.device_get([x if _is_small(x) else _on_devices(x) for x in words])
    sums = [
        _sum(np, np.asarray(part)) if _is_small(x) else part
        for x, part in zip(words, parts, strict=True)
    ]
    return {
        name: f"{format_shape(leaf)} {int(total):08x}"
        for (name, leaf), total in zip(leaves, sums, strict=True)
    }


def format_shape(leaf: Any) -> str:
    """Format dtype and shape of an array or its abstract value, as in ``hash_arrays``."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _is_small(x: Any) -> bool:
    whole = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
    return bool(whole and x.size <= LARGE)


def _sum(xp: Any, x: Any) -> Any:
    """Return the checksum of an array, computed with ``xp``: NumPy, or JAX when traced."""
    x = x.reshape(x.shape or (1,))
    x = x.astype(xp.uint8) if x.dtype == bool else x
    x = np.ascontiguousarray(x) if xp is np else x
    words = x.view(f"uint{8 * min(x.dtype.itemsize, 4)}").astype(xp.uint32)
    place, stride = xp.zeros((1,) * words.ndim, xp.uint32), 1
    for axis in reversed(range(words.ndim)):
        along = [-1 if i == axis else 1 for i in range(words.ndim)]
        index = xp.arange(words.shape[axis], dtype=xp.uint32).reshape(along)
        place = place + index * xp.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return xp.sum(_mix(xp, words ^ _mix(xp, place + xp.uint32(1))), dtype=xp.uint32)


def _mix(xp: Any, words: Any) -> Any:
    """Return a one-to-one hash of 32-bit words: the last steps of MurmurHash3 (A.

    Appleby, public domain).
    """
    words = (words ^ (words >> 16)) * xp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * xp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)


_on_devices = jax.jit(functools.partial(_sum, jnp))
