"""Selects leaves of pytrees by regular expressions on paths, such as ``encoder/.*kernel``, and sums
their squares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from genjax.errors import UserError


def path_string(path: Sequence[Any]) -> str:
    """Format the key path of a leaf, as ``encoder/Dense_0/kernel``."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """List every leaf with its path, in tree order."""
    return [(path_string(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def match_paths(patterns: Sequence[str], tree: Any) -> Any:
    """Return a tree of bools: True where any of the regular expressions matches the leaf's path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(re.search(pattern, path_string(path)) for pattern in patterns), tree
    )


def check_syntax(option: str, patterns: Sequence[str]) -> None:
    """Refuse invalid regular expressions."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise UserError(f"{option}: {pattern!r} is not a regular expression: {error}") from None


def check_patterns(option: str, patterns: Sequence[str], tree: Any) -> None:
    """Refuse a pattern that matches nothing, as it must be a typing error."""
    names = [name for name, _ in named_leaves(tree)]
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            raise UserError(
                f"{option}: {pattern!r} matches no parameter; there are {', '.join(names)}"
            )


def sum_squares(x: jax.Array) -> jax.Array:
    """Sum the squares by rows first: XLA sums a whole matrix by windows of 32x32, which takes a CPU
    up to 30 times longer.
    """
    rows = jnp.square(x).sum(tuple(range(x.ndim))[-1:])
    return lax.optimization_barrier(rows).sum()
