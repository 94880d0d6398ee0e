"""Attention between tokens: causal or not, within segments, within a window, of grouped heads,
from a cache.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.machine.target import target_platform
from genjax.nets.transformer.blocked_attention import (
    HIDDEN,
    Prefix,
    Rule,
    Segments,
    attend_blocked,
    visible,
)
from genjax.nets.transformer.cache import LayerCache, write
from genjax.nets.transformer.positions import rotate

Implementation = Literal["xla", "blocked", "cudnn"]


class RelationScene(NamedTuple):
    """What all layers share in one call.

    Attributes:
        table: Cosines and sines of rotary positions; None for others.
        mask: bool [B, T, S], what of the cache each query sees; None without a cache.
        slots: int32 [B, T], where in the cache the tokens go; None without a cache.
        segments: int32 [B, T]; None for one segment a row.
        prefix: bool [B, T], tokens that see one another both ways; None for none.
        memory: [B, M, C], or None if there is none or the cache has its keys and values.
        memory_mask: [B, M], the segment that reads each part, 0 for padding; of bools, True is
            segment 1. None if all of it is real.
    """

    table: tuple[jax.Array, jax.Array] | None
    mask: jax.Array | None
    slots: jax.Array | None
    segments: jax.Array | None
    prefix: jax.Array | None
    memory: jax.Array | None
    memory_mask: jax.Array | None


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    rule: Rule,
    *,
    segments: Segments = None,
    prefix: Prefix = None,
    implementation: Implementation = "xla",
) -> jax.Array:
    """Return softmax attention [B, H, T, D] of queries [B, H, T, D] to keys and values [B, K, S,
    D].

    Head h reads key h // (H / K) (grouped queries, Ainslie et al., arXiv 2305.13245).

    Args:
        rule: Its scale, and what each query sees.
        segments: int32 [B, T] of queries and [B, S] of keys: only equal ones see one another.
        prefix: bool [B, T] of queries and [B, S] of keys: where both are true a causal rule is off.
        implementation: "xla" holds all scores [B, H, T, S]; "blocked" holds those of one block, and
            memory grows with T alone; "cudnn" is a GPU's fused kernel.

    Raises:
        UserError: "cudnn" would silently ignore what is requested.
    """
    if implementation == "cudnn":
        return _cudnn(query, key, value, rule, segments, prefix)
    if implementation == "blocked":
        return attend_blocked(query, key, value, rule, segments, prefix)
    t, s = query.shape[2], key.shape[2]
    return attend_xla(
        query, key, value, rule, visible(rule, jnp.arange(t), jnp.arange(s), segments, prefix)
    )


def attend_xla(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    rule: Rule,
    mask: jax.Array | None,
    dropout: nn.Module | None = None,
) -> jax.Array:
    """As `attend`, with a mask of bools [B or 1, T, S] in the rule's place; `dropout` acts on
    the weights.
    """
    b, h, t, d = query.shape
    kv, s = key.shape[1:3]
    # Heads of a group are rows of one product. Scaled queries cost less than scaled scores.
    grouped = (query * rule.scale).reshape(b, kv, (h // kv) * t, d)
    scores = jnp.einsum("bktd,bksd->bkts", grouped, key, preferred_element_type=jnp.float32)
    if rule.softcap is not None:
        scores = rule.softcap * jnp.tanh(scores / rule.softcap)
    if mask is not None:
        scores = scores.reshape(b, h, t, s)
        scores = jnp.where(mask[:, None], scores, HIDDEN).reshape(b, kv, -1, s)
    weights = jax.nn.softmax(scores)
    if dropout is not None:
        weights = dropout(weights)
    return jnp.einsum("bkts,bksd->bktd", weights.astype(value.dtype), value).reshape(b, h, t, d)


def _cudnn(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    rule: Rule,
    segments: Segments,
    prefix: Prefix,
) -> jax.Array:
    if prefix is not None:
        raise UserError(
            'attention="cudnn" knows no prefix that is read both ways; use "xla" or "blocked"'
        )
    if segments is not None:
        raise UserError(
            'attention="cudnn" knows no segment ids or padding; use "xla" or "blocked" for packed '
            "rows"
        )
    if rule.softcap is not None:
        raise UserError('attention="cudnn" knows no soft-cap; use "xla" or "blocked"')
    if query.dtype not in (jnp.bfloat16, jnp.float16) or query.shape[-1] % 8:
        raise UserError(
            'attention="cudnn" needs precision="bfloat16" and heads a multiple of 8 wide, '
            f"not {query.dtype} and {query.shape[-1]}"
        )
    if target_platform() != "gpu":
        raise UserError(
            f'attention="cudnn" needs a GPU, and the target is {target_platform()}; use "xla" or '
            '"blocked"'
        )
    window = (
        None if rule.window is None else (rule.window - 1, 0 if rule.causal else rule.window - 1)
    )
    out = jax.nn.dot_product_attention(
        query.swapaxes(1, 2),
        key.swapaxes(1, 2),
        value.swapaxes(1, 2),
        scale=rule.scale,
        is_causal=rule.causal,
        local_window_size=window,
        implementation="cudnn",
    )
    return out.swapaxes(1, 2)


class TokenAttention(nn.Module):
    """Attention of tokens to themselves, or with `cross` to a memory: [B, T, C] -> the same.

    Matrix products are on flat rows, as XLA's CPU back end is far slower on others. Queries, keys
    and values have a matrix each: joined ones took no less time in training, and three times as
    long for one token.

    Attributes:
        heads: H.
        kv_heads: K; divides H.
        head_width: D.
        rule: What each query sees, and the scale.
        implementation: See `attend`; calls with a cache, or that drop weights, use "xla".
        bias: Of the matrices of queries, keys and values.
        last_bias: Of the matrix that mixes the heads.
        qk_norm: Epsilon of an RMS norm of each query and key (Dehghani et al., arXiv 2302.05442);
          None for none.
        dropout: Share of the attention's weights that a training step drops.
        kernel_init: Of the matrices.
        last_init: Of the one that mixes the heads.
        cross: Whether keys and values are a memory's.
    """

    heads: int
    kv_heads: int
    head_width: int
    rule: Rule
    implementation: Implementation
    bias: bool
    last_bias: bool
    qk_norm: float | None
    dropout: float
    kernel_init: nn.initializers.Initializer
    last_init: nn.initializers.Initializer
    cross: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: LayerCache | None, scene: RelationScene, train: bool
    ) -> tuple[jax.Array, LayerCache | None]:
        """Return the output, and the cache with the tokens in it."""
        b, t, c = x.shape
        query = self._project_heads(x, self.heads, "query")
        if self.cross:
            mixed, cache = self._attend_cross(query, cache, scene, train)
        else:
            mixed, cache = self._attend_self(x, query, cache, scene, train)
        flat = mixed.swapaxes(1, 2).reshape(b * t, -1)
        out = nn.Dense(c, self.last_bias, dtype=x.dtype, kernel_init=self.last_init, name="mix")(
            flat
        )
        return out.reshape(b, t, c), cache

    def _project_heads(self, x: jax.Array, heads: int, name: str) -> jax.Array:
        """Map [B, T, C] -> [B, heads, T, D]."""
        b, t, c = x.shape
        dense = nn.Dense(
            heads * self.head_width,
            self.bias,
            dtype=x.dtype,
            kernel_init=self.kernel_init,
            name=name,
        )
        y = dense(x.reshape(b * t, c)).reshape(b, t, heads, self.head_width)
        if self.qk_norm is not None and name != "value":
            y = nn.RMSNorm(self.qk_norm, dtype=y.dtype, name=f"{name}_norm")(y)
        return y.swapaxes(1, 2)

    def _attend_self(
        self,
        x: jax.Array,
        query: jax.Array,
        cache: LayerCache | None,
        scene: RelationScene,
        train: bool,
    ) -> tuple[jax.Array, LayerCache | None]:
        key, value = (self._project_heads(x, self.kv_heads, name) for name in ("key", "value"))
        if scene.table is not None:
            query, key = rotate(query, scene.table), rotate(key, scene.table)
        if cache is None:
            segments = None if scene.segments is None else (scene.segments, scene.segments)
            prefix = None if scene.prefix is None else (scene.prefix, scene.prefix)
            return self._attend(query, key, value, self.rule, segments, train, prefix), None
        assert scene.slots is not None
        key, value = write(cache.keys, key, scene.slots), write(cache.values, value, scene.slots)
        cache = cache._replace(keys=key, values=value)
        return attend_xla(
            query, self._read_cache(key, x), self._read_cache(value, x), self.rule, scene.mask
        ), cache

    def _read_cache(self, array: jax.Array, x: jax.Array) -> jax.Array:
        """Of a cache, as attention reads it: [B*K, S, D] -> [B, K, S, D]."""
        return array.astype(x.dtype).reshape(len(x), self.kv_heads, *array.shape[1:])

    def _attend_cross(
        self, query: jax.Array, cache: LayerCache | None, scene: RelationScene, train: bool
    ) -> tuple[jax.Array, LayerCache | None]:
        if scene.memory is not None:
            key, value = (
                self._project_heads(scene.memory, self.kv_heads, name) for name in ("key", "value")
            )
            if cache is not None:
                assert cache.memory_keys is not None and cache.memory_values is not None
                shape, dtype = cache.memory_keys.shape, cache.memory_keys.dtype
                kept = key.astype(dtype).reshape(shape), value.astype(dtype).reshape(shape)
                cache = cache._replace(memory_keys=kept[0], memory_values=kept[1])
        else:
            assert (
                cache is not None
                and cache.memory_keys is not None
                and cache.memory_values is not None
            )
            key, value = (
                self._read_cache(cache.memory_keys, query),
                self._read_cache(cache.memory_values, query),
            )
        rule = dataclasses.replace(self.rule, causal=False, window=None)
        segments = None
        if scene.memory_mask is not None:
            ones = jnp.ones((query.shape[0], query.shape[2]), jnp.int32)
            segments = (
                ones if scene.segments is None else scene.segments,
                scene.memory_mask.astype(jnp.int32),
            )
        if cache is None:
            return self._attend(query, key, value, rule, segments, train), None
        return attend(query, key, value, rule, segments=segments), cache

    def _attend(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        rule: Rule,
        segments: Segments,
        train: bool,
        prefix: Prefix = None,
    ) -> jax.Array:
        if not (train and self.dropout):
            form = self.implementation
            return attend(
                query, key, value, rule, segments=segments, prefix=prefix, implementation=form
            )
        mask = visible(rule, jnp.arange(query.shape[2]), jnp.arange(key.shape[2]), segments, prefix)
        dropout = nn.Dropout(self.dropout, deterministic=False, name="dropout")
        return attend_xla(query, key, value, rule, mask, dropout)
