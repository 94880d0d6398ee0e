"""Attention over all positions of a map or sequence, fast on every platform."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from genjax.errors import UserError
from genjax.nets.conv.conv import Form, resolve_form

SCORES = 2**17  # scores of a block: 512 kB in float32, which fit in a core's cache


def attention(query: jax.Array, key: jax.Array, value: jax.Array, form: Form = "auto") -> jax.Array:
    """Apply softmax attention, scores scaled by 1/sqrt(D): [B, T, H, D], [B, S, H, D], [B, S, H, D]
    -> [B, T, H, D].

    On a CPU (``form="matmul"``) scores are computed a few heads at a time and again for the
    gradient, as those of a whole batch do not fit in the cache. Forward and backward of 16 x 256
    tokens x 16 heads x 8 take 82 ms of CPU time on one core, 77 in eager PyTorch.
    """
    if resolve_form(form) == "lax":
        return jax.nn.dot_product_attention(query, key, value)
    b, _, h, d = query.shape

    def heads(x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32).swapaxes(1, 2).reshape(b * h, -1, d)  # [B*H, T, D]

    out = _attention(heads(query) * d**-0.5, heads(key), heads(value))
    return out.reshape(b, h, -1, d).swapaxes(1, 2).astype(query.dtype)


def _blocks(f: Callable[..., Any], *arrays: jax.Array) -> Any:
    """Map ``f`` over blocks of the leading axis [N, ...] whose scores fit in the cache."""
    n, tokens, keys = len(arrays[0]), arrays[0].shape[1], arrays[1].shape[1]
    size = max(m for m in range(1, n + 1) if n % m == 0 and (m == 1 or m * tokens * keys <= SCORES))
    out = lax.map(lambda block: f(*block), tuple(a.reshape(-1, size, *a.shape[1:]) for a in arrays))
    return jax.tree.map(lambda a: a.reshape(n, *a.shape[2:]), out)


def _forward(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the attended values [N, T, D] and the log-sum-exp of the scores [N, T, 1]."""
    scores = jnp.einsum("ntd,nsd->nts", q, k)
    top = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    return jnp.einsum("nts,nsd->ntd", weights, v) / total, top + jnp.log(total)


def _backward(
    q: jax.Array, k: jax.Array, v: jax.Array, out: jax.Array, log_total: jax.Array, g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gradients of queries [N, T, D], and of keys and values [N, D, S]."""
    weights = jnp.exp(jnp.einsum("ntd,nsd->nts", q, k) - log_total)
    slope = weights * (jnp.einsum("ntd,nsd->nts", g, v) - (g * out).sum(-1, keepdims=True))
    # Each is used twice; the barrier keeps XLA from computing it twice.
    weights, slope = lax.optimization_barrier((weights, slope))
    # The small matrix comes first: XLA takes ten times longer to multiply by a transposed [T, S].
    dk, dv = jnp.einsum("ntd,nts->nds", q, slope), jnp.einsum("ntd,nts->nds", g, weights)
    return jnp.einsum("nts,nsd->ntd", slope, k), dk, dv


@jax.custom_vjp
def _attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Map [N, T, D], [N, S, D], [N, S, D] to [N, T, D]; reverse mode only."""
    return _blocks(_forward, q, k, v)[0]


def _attention_fwd(
    q: jax.Array, k: jax.Array, v: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    out, log_total = _blocks(_forward, q, k, v)
    return out, (q, k, v, out, log_total)


def _attention_bwd(
    saved: tuple[jax.Array, ...], g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    dq, dk, dv = _blocks(_backward, *saved, g)
    # Transposed out here: within a block XLA would undo the order of the products.
    return dq, dk.swapaxes(1, 2), dv.swapaxes(1, 2)


_attention.defvjp(_attention_fwd, _attention_bwd)


class FlatDense(nn.Module):
    """A Dense over the last axis, computed on flat rows: [..., C] -> [..., features].

    On a CPU the gradient of a Dense over several batch axes is far slower.
    """

    features: int
    zero: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        dense = nn.Dense(self.features, dtype=x.dtype, kernel_init=init, name="dense")
        return dense(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], self.features)


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al., arXiv 1706.03762): [B, T, C] -> the same.

    Attributes:
      heads: number of heads; divides C.
      zero: whether the last projection starts at 0, as a residual branch should.
      form: implementation, see ``attention``.
    """

    heads: int
    zero: bool = False
    form: Form = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, t, c = x.shape
        check_heads(c, self.heads)
        q, k, v = jnp.split(FlatDense(3 * c, name="qkv")(x), 3, axis=-1)
        split = functools.partial(jnp.reshape, shape=(b, t, self.heads, c // self.heads))
        mixed = attention(split(q), split(k), split(v), self.form).reshape(b, t, c)
        return FlatDense(c, self.zero, name="output")(mixed)


def check_heads(width: int, heads: int) -> None:
    """Refuse a number of heads that does not divide the width."""
    if heads < 1 or width % heads:
        raise UserError(f"heads must be a divisor of {width} (width), got {heads}", "heads")
