"""Multinomial diffusion of a category (Hoogeboom et al., arXiv 2102.05379, section 4).

A category of K values is a row of K shares. A step keeps it with probability keep and replaces it
by any of the K, uniformly, otherwise; ``kept``, written alpha-bar in the paper, is the product of
the keep of all steps so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp

TINY = 1e-30  # added to shares before their logarithm


def diffuse(shares: jax.Array, kept: jax.Array) -> jax.Array:
    """Return q(x_t | x_0) [..., K] for shares x_0 [..., K] and kept [...] (eq. 12)."""
    kept = kept[..., None]
    return kept * shares + (1 - kept) / shares.shape[-1]


def posterior(x: jax.Array, x0: jax.Array, kept: jax.Array, kept_before: jax.Array) -> jax.Array:
    """Return q(x_s | x_t, x_0) [..., K] for an earlier time s (eq. 13).

    With predicted shares for x_0 it is the model's p(x_s | x_t).

    Args:
      x: x_t, one-hot [..., K].
      x0: x_0, one-hot or predicted shares [..., K].
      kept: share kept from 0 to t, [...].
      kept_before: share kept from 0 to s, [...]; 1 if s is 0.
    """
    likelihood = diffuse(x, kept / kept_before)  # q(x_t | x_s) is symmetric
    joint = likelihood * diffuse(x0, kept_before)
    return joint / jnp.maximum(joint.sum(-1, keepdims=True), TINY)


def kl(p: jax.Array, q: jax.Array) -> jax.Array:
    """Return KL(p || q) [...] in nats of shares [..., K]; if p is one-hot, -log q of its value."""
    return (p * (jnp.log(p + TINY) - jnp.log(q + TINY))).sum(-1)


def draw(key: jax.Array, columns: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """Draw one-hot values [B, K] with the shares [B, K] of each column."""
    joined = jnp.concatenate(columns, -1)
    # One call for all columns, by the Gumbel-max trick: it compiles much faster than one for each.
    noisy = jnp.log(joined + TINY) + jax.random.gumbel(key, joined.shape)
    ends = list(accumulate((column.shape[-1] for column in columns), initial=0))
    return tuple(jax.nn.one_hot(noisy[..., a:b].argmax(-1), b - a) for a, b in pairwise(ends))
