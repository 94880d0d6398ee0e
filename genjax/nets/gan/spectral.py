"""Spectral normalisation (Miyato et al., arXiv 1802.05957) of the parameters of any network."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from genjax import trees

Params = Any
Vectors = dict[str, jax.Array]


def draw_vectors(params: Params, key: jax.Array) -> Vectors:
    """Draw a unit vector [out] for each parameter [..., out] with two or more axes, by path."""
    matrices = [(path, leaf) for path, leaf in trees.named_leaves(params) if leaf.ndim >= 2]
    keys = jax.random.split(key, len(matrices))
    return {
        path: _unit(jax.random.normal(k, leaf.shape[-1:]))
        for k, (path, leaf) in zip(keys, matrices, strict=True)
    }


def normalise(params: Params, vectors: Vectors, iterate: bool) -> tuple[Params, Vectors]:
    """Divide each matrix by its largest singular value; return the parameters and the updated
    vectors.

    A kernel [..., out] is the matrix [prod(...), out]. With ``iterate`` the vectors take one step
    of power iteration first. They carry no gradient; the singular value does.
    """
    moved = dict(vectors)

    def divided(path: Any, leaf: jax.Array) -> jax.Array:
        name = trees.path_string(path)
        if name not in vectors:
            return leaf
        leaf, moved[name] = _normalise_kernel(leaf, vectors[name], iterate)
        return leaf

    return jax.tree_util.tree_map_with_path(divided, params), moved


def _normalise_kernel(
    kernel: jax.Array, u: jax.Array, iterate: bool
) -> tuple[jax.Array, jax.Array]:
    matrix = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])  # [in, out]
    fixed = jax.lax.stop_gradient(matrix)
    v = _unit(fixed @ u)
    if iterate:
        u = _unit(v @ fixed)
        v = _unit(fixed @ u)
    sigma = jnp.maximum(v @ matrix @ u, 1e-12)
    return (kernel / sigma).astype(kernel.dtype), u


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
