"""Rows of a table as vectors: the numbers within their modes, then a one-hot block for each column
of ``categorical``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import jax
import jax.numpy as jnp

from genjax.data.dataset import Spec
from genjax.errors import UserError


def constants(spec: Spec) -> dict[str, tuple[jax.Array, ...]]:
    """Return what a family stores about a table in its variables; {} for other data.

    ``shares`` has an array [C] for each column of ``categorical``: the share of each value in the
    training rows.
    """
    if spec.categories is None:
        return {}
    return {"shares": blocks(jnp.asarray(spec.mean), spec.categories)[1]}


def categories(variables: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the number of values of each column of ``categorical``, from ``constants``.

    Raises:
      UserError: the family does not model tables, so it has no such constants.
    """
    if "shares" not in variables:
        raise UserError("family must be a VAE or a GAN to model tables", "family")
    return tuple(len(share) for share in variables["shares"])


def vector(numeric: jax.Array, categorical: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Join ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B, K], whose columns have
    ``sizes`` values, to rows [B, D].
    """
    hot = [jax.nn.one_hot(categorical[:, k], size) for k, size in enumerate(sizes)]
    return jnp.concatenate([numeric, *hot], axis=-1)


def blocks(x: Any, sizes: Sequence[int]) -> tuple[Any, tuple[Any, ...]]:
    """Split rows [..., D] into numbers [..., Kn] and a block [..., C] for each column of
    ``categorical``.
    """
    ends = list(accumulate(sizes, initial=x.shape[-1] - sum(sizes)))
    return x[..., : ends[0]], tuple(x[..., a:b] for a, b in pairwise(ends))


def relax_outputs(
    key: jax.Array, x: jax.Array, sizes: Sequence[int], temperature: float
) -> jax.Array:
    """Turn outputs [B, D] of a generator into rows: tanh for numbers, softmax with Gumbel noise for
    blocks.

    The largest entry of a block is distributed like a draw by its logits, and the block has a
    gradient (Jang et al., arXiv 1611.01144); the lower the temperature, the closer to one-hot.
    """
    numbers, logits = blocks(x, sizes)
    keys = jax.random.split(key, max(len(logits), 1))
    noisy = [each + jax.random.gumbel(k, each.shape) for k, each in zip(keys, logits, strict=False)]
    return jnp.concatenate(
        [jnp.tanh(numbers), *(jax.nn.softmax(each / temperature) for each in noisy)], axis=-1
    )
