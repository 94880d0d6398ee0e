"""Convolutions of 3x3 taps by Winograd's minimal filtering, F(2x2, 3x3), for CPUs.

Four outputs take 16 products instead of 36: y = A^T [(G k G^T) * (B^T x B)] A on tiles of 4x4
inputs that overlap by two, where * becomes a matrix product over the channels for each of the 16
places (Lavin & Gray, arXiv 1509.09308). The gradient for the kernel is the transpose of this map,
G^T [(B^T x B) * (A g A^T)] G.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

PLACES = 16  # of a tile of 4x4
# Numbers in the transforms of a block that stay in a core's cache, and with which XLA splits a
# product over several cores; below the last one no number of images is enough for that.
CACHED, LARGE, SPLIT = 2**19, 2**22, 3 * 2**19
Parts = Sequence[jax.Array]


def _input_rows(x: Parts) -> Parts:
    """B^T."""
    return x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]


def _kernel_rows(k: Parts) -> Parts:
    """G."""
    ends, middle = 0.5 * (k[0] + k[2]), 0.5 * k[1]
    return k[0], ends + middle, ends - middle, k[2]


def _kernel_sums(d: Parts) -> Parts:
    """G^T."""
    total, difference = 0.5 * (d[1] + d[2]), 0.5 * (d[1] - d[2])
    return d[0] + total, difference, total + d[3]


def _output_rows(g: Parts) -> Parts:
    """A."""
    return g[0], g[0] + g[1], g[0] - g[1], -g[1]


def _output_sums(m: Parts) -> Parts:
    """A^T."""
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


def _stack(parts: Parts, axis: int = 0) -> jax.Array:
    """Stack parts in memory: XLA would otherwise compute them again for each use."""
    return lax.optimization_barrier(jnp.stack(parts, axis))


def _tiles(x: jax.Array, axis: int) -> Parts:
    """Return the four inputs of every tile along a padded axis of 2 n + 2: each with n there."""
    size = x.shape[axis] - 2
    return [lax.slice_in_dim(x, i, i + size - 1, 2, axis) for i in range(4)]


def transform_inputs(x: jax.Array) -> jax.Array:
    """Transform [B, H, W, C], H and W even: [16, B * H/2 * W/2, C]."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = _stack(_input_rows(_tiles(x, 1)))  # [4, B, H/2, W + 2, C]
    return jnp.stack(_input_rows(_tiles(rows, 3)), 1).reshape(PLACES, -1, x.shape[-1])


def transform_kernel(kernel: jax.Array) -> jax.Array:
    """Transform [3, 3, C, F]: [16, C, F]."""
    rows = _stack(_kernel_rows(list(kernel)))
    columns = jnp.stack(_kernel_rows([rows[:, i] for i in range(3)]), 1)
    return columns.reshape(PLACES, *kernel.shape[2:])


def transform_gradients(g: jax.Array) -> jax.Array:
    """Transform the gradient for outputs, [B, H, W, F]: [16, B * H/2 * W/2, F]."""
    b, h, w, f = g.shape
    pairs = g.reshape(b, h // 2, 2, w, f)
    rows = _stack(_output_rows([pairs[:, :, i] for i in range(2)]))
    pairs = rows.reshape(4, b, h // 2, w // 2, 2, f)
    return jnp.stack(_output_rows([pairs[..., i, :] for i in range(2)]), 1).reshape(PLACES, -1, f)


def collect_outputs(products: jax.Array, b: int, h: int, w: int) -> jax.Array:
    """Return the outputs [B, H, W, F] of products [16, B * H/2 * W/2, F]."""
    tiles = products.reshape(4, 4, b, h // 2, w // 2, -1)
    rows = _output_sums(list(tiles))  # each [4, B, H/2, W/2, F]
    return jnp.stack([jnp.stack(_output_sums(list(row)), 3) for row in rows], 2).reshape(
        b, h, w, -1
    )


def collect_kernel(products: jax.Array) -> jax.Array:
    """Return the gradient [3, 3, C, F] of sums of products [16, C, F]."""
    tiles = products.reshape(4, 4, *products.shape[1:])
    rows = _stack(_kernel_sums(list(tiles)))  # [3, 4, C, F]
    return jnp.stack(_kernel_sums([rows[:, i] for i in range(4)]), 1)


def convolve(x: jax.Array, kernel: jax.Array, block: int) -> jax.Array:
    """Convolve with stride 1 and zeros around: [B, H, W, C], [3, 3, C, F] -> [B, H, W, F].

    ``block`` images are transformed at a time; it divides B.
    """
    _, height, width, _ = x.shape
    x = _pad_even(x)
    b, h, w, _ = x.shape
    taps = lax.optimization_barrier(transform_kernel(kernel))

    def add(y: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        some = lax.dynamic_slice_in_dim(x, start, block)
        products = jnp.einsum("ptc,pcf->ptf", transform_inputs(some), taps)
        return lax.dynamic_update_slice_in_dim(
            y, collect_outputs(products, block, h, w), start, 0
        ), None

    y = jnp.zeros((b, h, w, kernel.shape[-1]), x.dtype)
    y, _ = lax.scan(add, y, jnp.arange(0, b, block))
    return y[:, :height, :width]


def differentiate_kernel(x: jax.Array, g: jax.Array, block: int) -> jax.Array:
    """Return the gradient of ``convolve`` for its kernel: [B, H, W, C], [B, H, W, F] -> [3, 3, C,
    F].
    """
    x, g = _pad_even(x), _pad_even(g)
    c, f = x.shape[-1], g.shape[-1]
    swapped = f < c  # products with the wider side on the right are faster

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        left = transform_inputs(lax.dynamic_slice_in_dim(x, start, block))
        right = transform_gradients(lax.dynamic_slice_in_dim(g, start, block))
        if swapped:
            left, right = right, left
        products = jnp.einsum("ptc,ptf->pcf", left, right, preferred_element_type=jnp.float32)
        return total + products, None

    total = jnp.zeros((PLACES, *((f, c) if swapped else (c, f))), jnp.float32)
    total, _ = lax.scan(add, total, jnp.arange(0, len(x), block))
    return collect_kernel(total.swapaxes(1, 2) if swapped else total)


def _pad_even(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def choose_output_block(shape: Sequence[int], features: int, cores: int) -> int:
    """Return how many images of a shape [B, H, W, C] ``convolve`` should take at a time; 0 where
    XLA's own convolution is faster.

    On one core, where a block's transforms should stay in the cache, it takes 0.6 to 0.8 times as
    long. XLA splits a product over several cores only if it is large, so that it takes many images
    to win: 0.7 to 0.9 times as long from 128 channels on, and longer with fewer.
    """
    widest, narrowest = max(shape[-1], features), min(shape[-1], features)
    if cores == 1:
        return _fit(shape, features, CACHED) if widest >= 64 and narrowest >= 32 else 0
    many = shape[0] * _count(shape, features) >= SPLIT
    return _fit(shape, features, LARGE) if many and widest >= 128 and narrowest >= 32 else 0


def choose_kernel_block(shape: Sequence[int], features: int, cores: int) -> int:
    """Return how many images ``differentiate_kernel`` should take at a time; 0 where products of
    whole windows are faster.

    It takes 0.55 to 0.9 times as long from 128 channels on, on several cores 0.6 to 0.9 times also
    with fewer on large maps.
    """
    widest, narrowest = max(shape[-1], features), min(shape[-1], features)
    large = cores > 1 and shape[1] * shape[2] >= 28 * 28
    if narrowest < 32 or (widest < 128 and not large):
        return 0
    return _fit(shape, features, CACHED if cores == 1 else LARGE)


def _count(shape: Sequence[int], features: int) -> int:
    """Return the numbers that the transforms of one image hold, before and after the products."""
    tiles = math.ceil(shape[1] / 2) * math.ceil(shape[2] / 2)
    return PLACES * tiles * (shape[-1] + features)


def _fit(shape: Sequence[int], features: int, limit: int) -> int:
    """Return the largest divisor of B whose transforms hold at most ``limit`` numbers, or 1."""
    b, size = shape[0], _count(shape, features)
    return max(n for n in range(1, b + 1) if b % n == 0 and (n == 1 or n * size <= limit))
