"""A row of a table as one vector: its numbers within their modes, then a one-hot block a
column of ``categorical``.
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
    """What a family keeps of a table in its variables, {} of other data.

    ``shares`` has an array [C] for each column of ``categorical``: the share of each of its values
    in training.
    """
    if spec.categories is None:
        return {}
    return {"shares": blocks(jnp.asarray(spec.mean), spec.categories)[1]}


def categories(variables: Mapping[str, Any]) -> tuple[int, ...]:
    """How many values each column of ``categorical`` takes, of a family that keeps ``constants`` of
    its data.

    Raises:
      UserError: it keeps none, as it does not model tables.
    """
    if "shares" not in variables:
        raise UserError("this family does not model tables; a VAE and a GAN do")
    return tuple(len(share) for share in variables["shares"])


def vector(numeric: jax.Array, categorical: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Rows [B, D] of ``numeric`` float32 [B, Kn] and ``categorical`` int32 [B, K], whose
    columns take ``sizes``.
    """
    hot = [jax.nn.one_hot(categorical[:, k], size) for k, size in enumerate(sizes)]
    return jnp.concatenate([numeric, *hot], axis=-1)


def blocks(x: Any, sizes: Sequence[int]) -> tuple[Any, tuple[Any, ...]]:
    """The numbers [..., Kn] of rows [..., D], and their block [..., C] of each column of
    ``categorical``.
    """
    ends = list(accumulate(sizes, initial=x.shape[-1] - sum(sizes)))
    return x[..., : ends[0]], tuple(x[..., a:b] for a, b in pairwise(ends))


def relax_outputs(
    key: jax.Array, x: jax.Array, sizes: Sequence[int], temperature: float
) -> jax.Array:
    """Outputs [B, D] of a generator as rows: numbers by tanh, a block by a softmax with Gumbel
    noise.

    The largest value of such a block falls where a draw by its logits does, and it has a gradient
    (Jang et al., arXiv 1611.01144); the lower the temperature, the nearer it is to a one-hot.
    """
    numbers, logits = blocks(x, sizes)
    keys = jax.random.split(key, max(len(logits), 1))
    noisy = [each + jax.random.gumbel(k, each.shape) for k, each in zip(keys, logits, strict=False)]
    return jnp.concatenate(
        [jnp.tanh(numbers), *(jax.nn.softmax(each / temperature) for each in noisy)], axis=-1
    )
