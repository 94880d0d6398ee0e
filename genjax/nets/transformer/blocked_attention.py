"""Attention that computes its scores block by block, and again for the gradient: memory grows with
T, not T^2.

The running maximum and sum follow Milakov & Gimelshein (arXiv 1805.02867), the gradient from the
stored log-sum-exp Dao et al. (arXiv 2205.14135).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

HIDDEN = -1e30  # finite, so that a query that sees no key does not give NaN
BLOCK = 128  # queries, and keys, per block
Segments = tuple[jax.Array, jax.Array] | None
Prefix = tuple[jax.Array, jax.Array] | None


@dataclass(frozen=True)
class Rule:
    """How scores are computed, and which keys each query sees.

    Attributes:
      scale: factor on the scores.
      causal: whether a query sees only keys up to its own position.
      window: a query sees keys less than this many positions away; None for all.
      softcap: scores are softcap * tanh(scores / softcap) (Gemma 2, arXiv 2408.00118); None for
        none.
    """

    scale: float
    causal: bool = False
    window: int | None = None
    softcap: float | None = None


def make_mask(
    rule: Rule, rows: jax.Array, columns: jax.Array, segments: Segments, prefix: Prefix = None
) -> jax.Array | None:
    """Return the mask, bool [B or 1, T, S]: whether the query at position rows[i] sees the key at
    columns[j]. It is None if every query sees every key.

    ``rows`` is [T] or [B, T], ``columns`` [S]. Tokens see only equal ``segments`` ([B, T] and [B,
    S]). Tokens of a ``prefix``, where bools [B, T] and [B, S] are true, see one another in both
    directions; so do those of each block, where integers give its number, 0 for none.
    """
    rows = jnp.atleast_2d(rows)[:, :, None]
    before = rows - columns[None, None]
    parts = []
    if rule.causal:
        seen = before >= 0
        if prefix is not None:
            block = prefix[0][:, :, None]
            seen = seen | ((block == prefix[1][:, None]) & (block > 0))
        parts.append(seen)
    if rule.window is not None:
        parts.append((before < rule.window) & (before > -rule.window))
    if segments is not None:
        parts.append(segments[0][:, :, None] == segments[1][:, None])
    return functools.reduce(jnp.logical_and, parts) if parts else None


def attend_blocked(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    rule: Rule,
    segments: Segments = None,
    prefix: Prefix = None,
) -> jax.Array:
    """Compute ``token_attention.attend`` block by block: [B, H, T, D], [B, K, S, D], [B, K, S, D]
    -> [B, H, T, D]; reverse mode only.

    A causal rule skips half of the blocks; with a prefix all are computed.
    """
    b, h, t, d = query.shape
    kv, s = key.shape[1:3]
    block = min(BLOCK, max(t, s))
    rows, columns = -t % block, -s % block
    if segments is None and columns and not rule.causal:
        # Padding to whole blocks is a segment of its own.
        segments = jnp.ones((b, t), jnp.int32), jnp.ones((b, s), jnp.int32)
    if segments is not None:
        segments = (
            jnp.pad(segments[0], ((0, 0), (0, rows)), constant_values=-1),
            jnp.pad(segments[1], ((0, 0), (0, columns)), constant_values=-1),
        )
    if prefix is not None:
        prefix = jnp.pad(prefix[0], ((0, 0), (0, rows))), jnp.pad(prefix[1], ((0, 0), (0, columns)))
    pad = lambda x, n: jnp.pad(x, ((0, 0),) * (x.ndim - 2) + ((0, n), (0, 0)))  # noqa: E731
    grouped = pad(query.reshape(b, kv, h // kv, t, d), rows)
    out = _attend(rule, block, grouped, pad(key, columns), pad(value, columns), segments, prefix)
    return out[..., :t, :].reshape(b, h, t, d)


def _slice(x: jax.Array, i: jax.Array, block: int, axis: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(x, i * block, block, axis)


def _scores(
    rule: Rule,
    block: int,
    i: Any,
    j: Any,
    q: jax.Array,
    k: jax.Array,
    segments: Segments,
    prefix: Prefix,
) -> Any:
    """Return capped, unmasked scores [B, K, G, c, c] of query block i and key block j, and their
    mask [B or 1, 1, 1, c, c].
    """
    scores = rule.scale * jnp.einsum("bkgtd,bksd->bkgts", q, k, preferred_element_type=jnp.float32)
    if rule.softcap is not None:
        scores = rule.softcap * jnp.tanh(scores / rule.softcap)
    places = jnp.arange(block)
    segments, prefix = (
        None if pair is None else (_slice(pair[0], i, block, 1), _slice(pair[1], j, block, 1))
        for pair in (segments, prefix)
    )
    mask = make_mask(rule, i * block + places, j * block + places, segments, prefix)
    return scores, None if mask is None else mask[:, None, None]


def _range(
    rule: Rule, block: int, i: Any, blocks: int, *, of_queries: bool, both_ways: bool
) -> tuple[Any, Any]:
    """Return the range [first, last) of key blocks that query block i sees; ``of_queries`` swaps
    the two.

    ``both_ways``: a prefix may let a causal rule see later tokens.
    """
    first: Any = 0
    last: Any = blocks
    reach = block - 1 if rule.window is None else block - 1 + rule.window - 1
    ahead = (i * block + reach) // block + 1
    behind = jnp.maximum((i * block - (reach - block + 1)) // block, 0)
    if rule.window is not None:
        first, last = behind, jnp.minimum(ahead, blocks)
    if rule.causal and both_ways:
        return first, last
    if rule.causal and of_queries:
        first = i
    elif rule.causal:
        last = jnp.minimum(i + 1, blocks)
    return first, last


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
    rule: Rule,
    block: int,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: Segments,
    prefix: Prefix,
) -> jax.Array:
    """Map [B, K, G, T, D], [B, K, S, D], [B, K, S, D] to [B, K, G, T, D]; T and S are whole
    blocks.
    """
    return _forward(rule, block, q, k, v, segments, prefix)[0]


def _forward(
    rule: Rule,
    block: int,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: Segments,
    prefix: Prefix,
) -> tuple[jax.Array, jax.Array]:
    """Return the attended values [B, K, G, T, D] and the log-sum-exp of the scores [B, K, G, T,
    1].
    """

    def row(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        q_i = _slice(q, i, block, 3)

        def add(j: jax.Array, carry: Any) -> Any:
            top, total, mixed = carry
            scores, mask = _scores(rule, block, i, j, q_i, _slice(k, j, block, 2), segments, prefix)
            scores = scores if mask is None else jnp.where(mask, scores, HIDDEN)
            higher = jnp.maximum(top, scores.max(-1, keepdims=True))
            weights, kept = jnp.exp(scores - higher), jnp.exp(top - higher)
            v_j = _slice(v, j, block, 2)
            new = jnp.einsum(
                "bkgts,bksd->bkgtd",
                weights.astype(v.dtype),
                v_j,
                preferred_element_type=jnp.float32,
            )
            return higher, total * kept + weights.sum(-1, keepdims=True), mixed * kept + new

        column = jnp.zeros((*q_i.shape[:-1], 1), jnp.float32)
        start = column - jnp.inf, column, jnp.zeros(q_i.shape, jnp.float32)
        first, last = _range(
            rule, block, i, k.shape[2] // block, of_queries=False, both_ways=prefix is not None
        )
        top, total, mixed = lax.fori_loop(first, last, add, start)
        return (mixed / total).astype(q.dtype), top + jnp.log(total)

    parts = lax.map(row, jnp.arange(q.shape[3] // block))
    out, log_total = (jnp.moveaxis(part, 0, 3).reshape(*q.shape[:4], -1) for part in parts)
    return out, log_total


def _fwd(
    rule: Rule,
    block: int,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: Segments,
    prefix: Prefix,
) -> tuple[jax.Array, Any]:
    out, log_total = _forward(rule, block, q, k, v, segments, prefix)
    return out, (q, k, v, segments, prefix, out, log_total)


def _bwd(rule: Rule, block: int, saved: Any, g: jax.Array) -> Any:
    q, k, v, segments, prefix, out, log_total = saved
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    delta = (g.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)

    def column(dq: jax.Array, j: jax.Array) -> Any:
        k_j, v_j = _slice(k, j, block, 2), _slice(v, j, block, 2)

        def add(i: jax.Array, carry: Any) -> Any:
            dq, dk, dv = carry
            q_i, g_i, delta_i, log_i = (_slice(x, i, block, 3) for x in (q, g, delta, log_total))
            scores, mask = _scores(rule, block, i, j, q_i, k_j, segments, prefix)
            weights = jnp.exp(scores - log_i)
            weights = weights if mask is None else jnp.where(mask, weights, 0.0)
            slope = weights * (product("bkgtd,bksd->bkgts", g_i, v_j) - delta_i)
            if rule.softcap is not None:
                slope = slope * (1 - jnp.square(scores / rule.softcap))
            slope, weights = (rule.scale * slope).astype(q.dtype), weights.astype(q.dtype)
            dq_i = _slice(dq, i, block, 3) + product("bkgts,bksd->bkgtd", slope, k_j)
            dk = dk + product("bkgts,bkgtd->bksd", slope, q_i)
            dv = dv + product("bkgts,bkgtd->bksd", weights, g_i)
            return lax.dynamic_update_slice_in_dim(dq, dq_i, i * block, 3), dk, dv

        zero = jnp.zeros(k_j.shape, jnp.float32)
        first, last = _range(
            rule, block, j, q.shape[3] // block, of_queries=True, both_ways=prefix is not None
        )
        dq, dk, dv = lax.fori_loop(first, last, add, (dq, zero, zero))
        return dq, (dk, dv)

    dq, parts = lax.scan(column, jnp.zeros(q.shape, jnp.float32), jnp.arange(k.shape[2] // block))
    dk, dv = (jnp.moveaxis(part, 0, 2).reshape(k.shape) for part in parts)
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None, None


_attend.defvjp(_fwd, _bwd)
