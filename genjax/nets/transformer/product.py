"""Products of rows with a kernel, whose gradient is fast on a CPU."""

from __future__ import annotations

from typing import Any

import jax

from genjax.machine.target import target_platform


def multiply_rows(
    rows: jax.Array,
    kernel: jax.Array,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """Compute the product of a dense layer, as its ``dot_general``: [N, D], [D, E] -> [N, E].

    On a CPU it has no forward-mode derivative.
    """
    if target_platform() == "cpu" and rows.ndim == 2 and precision is None:
        return multiply_on_cpu(rows, kernel)
    return jax.lax.dot_general(
        rows,
        kernel,
        dimension_numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


@jax.custom_vjp
def multiply_on_cpu(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Compute rows [N, D] times kernel [D, E]; reverse mode only.

    The gradient of the kernel sums over rows, the first axis of both factors, which XLA leaves to
    its slower library of products. Transposing the narrower factor first keeps it in the other.
    """
    return rows @ kernel


def _forward(rows: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return multiply_on_cpu(rows, kernel), (rows, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, kernel = saved
    if rows.shape[1] <= slope.shape[1]:
        d_kernel = _transpose(rows) @ slope
    else:
        d_kernel = _transpose(_transpose(slope) @ rows)
    return slope @ kernel.T, d_kernel


def _transpose(matrix: jax.Array) -> jax.Array:
    """Transpose in memory: without the barriers, XLA would make it part of the product."""
    return jax.lax.optimization_barrier(jax.lax.optimization_barrier(matrix).T)


multiply_on_cpu.defvjp(_forward, _backward)
