"""Products of rows with the matrix of their group, for experts, where groups may have any size.

On a GPU or TPU it is ``jax.lax.ragged_dot``. On a CPU XLA makes that one product with all of the
matrices, so its cost grows with their number; here a loop over tiles of rows computes only what is
asked for, as do the grouped products of MegaBlocks (Gale et al., arXiv 2211.15841).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from genjax.machine.target import target_platform

TILE = 32  # most rows of a tile: the fastest of 16, 32, 64 and 128 for experts of 128 x 256


def multiply_groups(rows: jax.Array, kernels: jax.Array, sizes: jax.Array) -> jax.Array:
    """Multiply sorted rows by the kernel of their group: [N, D], [E, D, H], int32 [E] -> [N, H].

    The first ``sizes[0]`` rows belong to group 0, the next ``sizes[1]`` to group 1 and so on; those
    past the last group give 0. On a CPU it has no forward-mode derivative.
    """
    if target_platform() != "cpu":
        return jax.lax.ragged_dot(rows, kernels, sizes)
    return multiply_tiles(_choose_tile(len(rows), len(kernels)), rows, kernels, sizes)


def _choose_tile(rows: int, groups: int) -> int:
    """Return the rows of a tile: a quarter of a group of mean size, as a power of two."""
    tile = 1
    while tile < TILE and tile * 4 * groups < rows:
        tile *= 2
    return tile


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def multiply_tiles(tile: int, rows: jax.Array, kernels: jax.Array, sizes: jax.Array) -> jax.Array:
    """Compute ``multiply_groups`` tile by tile; reverse mode only."""
    return _multiply(tile, rows, kernels, sizes, transposed=False)


def _multiply(
    tile: int, rows: jax.Array, kernels: jax.Array, sizes: jax.Array, *, transposed: bool
) -> jax.Array:
    """Map [N, D] to [N, H]; with ``transposed`` kernels [N, H] to [N, D]."""
    count, padded = len(rows), jnp.pad(rows, ((0, tile), (0, 0)))
    width = kernels.shape[1 if transposed else 2]
    total, find_tile = _list_tiles(tile, sizes)

    def add(number: jax.Array, out: jax.Array) -> jax.Array:
        group, start, inside = find_tile(number)
        kernel = jax.lax.dynamic_index_in_dim(kernels, group, keepdims=False)
        part = jax.lax.dynamic_slice_in_dim(padded, start, tile)
        new = part @ (kernel.T if transposed else kernel)
        # Rows of the next group are written again by its own tiles, which come later.
        return jax.lax.dynamic_update_slice_in_dim(out, jnp.where(inside, new, 0), start, 0)

    out = jnp.zeros((count + tile, width), jnp.result_type(rows, kernels))
    return jax.lax.fori_loop(0, total, add, out)[:count]


def _list_tiles(tile: int, sizes: jax.Array) -> tuple[jax.Array, Any]:
    """Return the number of tiles, and a function from that of a tile to its group, its first row
    and, bool [tile, 1], which of its rows belong to the group.
    """
    last_row, tiles = jnp.cumsum(sizes), -(-sizes // tile)
    last_tile = jnp.cumsum(tiles)

    def find_tile(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        group = jnp.searchsorted(last_tile, number, side="right")
        nth = number - (last_tile[group] - tiles[group])
        start = last_row[group] - sizes[group] + nth * tile
        return group, start, (start + jnp.arange(tile) < last_row[group])[:, None]

    return last_tile[-1], find_tile


def _forward(
    tile: int, rows: jax.Array, kernels: jax.Array, sizes: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    return multiply_tiles(tile, rows, kernels, sizes), (rows, kernels, sizes)


def _backward(
    tile: int, saved: tuple[jax.Array, jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    rows, kernels, sizes = saved
    d_rows = _multiply(tile, slope, kernels, sizes, transposed=True)
    rows, slope = (jnp.pad(x, ((0, tile), (0, 0))) for x in (rows, slope))
    total, find_tile = _list_tiles(tile, sizes)

    def add(number: jax.Array, out: jax.Array) -> jax.Array:
        group, start, inside = find_tile(number)
        part, part_slope = (jax.lax.dynamic_slice_in_dim(x, start, tile) for x in (rows, slope))
        new = jnp.where(inside, part, 0).T @ part_slope
        return out.at[group].add(new.astype(jnp.float32))

    d_kernels = jax.lax.fori_loop(0, total, add, jnp.zeros(kernels.shape, jnp.float32))
    return d_rows.astype(rows.dtype), d_kernels.astype(kernels.dtype), None


multiply_tiles.defvjp(_forward, _backward)
