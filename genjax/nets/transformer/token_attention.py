"""Attention between tokens: causal or not, with segments, a window, grouped heads and a cache."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.errors import UserError
from genjax.losses import multiply
from genjax.machine.target import COUNTED, note_form, run_platform, target_platform
from genjax.nets.transformer.blocked_attention import (
    HIDDEN,
    Prefix,
    Rule,
    Segments,
    attend_blocked,
    make_mask,
)
from genjax.nets.transformer.cache import LayerCache, write
from genjax.nets.transformer.positions import rotate
from genjax.nets.transformer.product import multiply_rows
from genjax.nets.transformer.segment_attention import Kernel, Misfit, attend_kernel, choose_kernel

Implementation = Literal["auto", "xla", "blocked", "kernel"]
Form = Literal["xla", "blocked"] | Kernel
LONG = 1024  # keys from which "auto" computes block by block
WORDS: dict[Form, str] = {
    "xla": "all scores at once (xla)",
    "blocked": "block by block (blocked)",
    "splash": "Pallas' splash attention (kernel)",
    "triton": "Pallas' flash attention (kernel)",
    "cudnn": "cuDNN's fused attention (kernel)",
}


class SharedInputs(NamedTuple):
    """The inputs that all layers share in one call.

    Attributes:
      table: cosines and sines of rotary positions; None for other positions.
      mask: bool [B, T, S], the slots of the cache that each query sees; None without a cache.
      slots: int32 [B, T], the slots of the cache for the tokens; None without a cache.
      segments: int32 [B, T]; None for one segment per row.
      prefix: bool [B, T], tokens that see one another in both directions, or int32 [B, T], their
        blocks; None for none.
      memory: [B, M, C]; None if there is none or its keys and values are in the cache.
      memory_mask: [B, M], the segment that reads each feature, 0 for padding; a bool True is
        segment 1. None if there is no padding.
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
    """Apply softmax attention: queries [B, H, T, D], keys and values [B, K, S, D] -> [B, H, T, D].

    Head h reads key h // (H / K) (grouped queries, Ainslie et al., arXiv 2305.13245).

    Args:
      rule: scale of the scores, and which keys each query sees.
      segments: int32 [B, T] of queries and [B, S] of keys: tokens see only equal segments.
      prefix: bool [B, T] of queries and [B, S] of keys: where both are true, the causal rule is
        off. Or int32: where both are equal and not 0.
      implementation: "xla" holds all scores [B, H, T, S]; "blocked" holds those of one block, so
        memory grows with T, not T^2; "kernel" is a kernel of the GPU or TPU; "auto" is the kernel
        where one fits, otherwise "blocked" for long rows and "xla" for others.

    Raises:
      UserError: no "kernel" fits.
    """
    form = choose_form(implementation, query, key, rule, segments, prefix)
    if form == "blocked":
        return attend_blocked(query, key, value, rule, segments, prefix)
    if form != "xla":
        return attend_kernel(form, query, key, value, rule, segments)
    t, s = query.shape[2], key.shape[2]
    return attend_xla(
        query, key, value, rule, make_mask(rule, jnp.arange(t), jnp.arange(s), segments, prefix)
    )


def attend_xla(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    rule: Rule,
    mask: jax.Array | None,
    dropout: nn.Module | None = None,
) -> jax.Array:
    """Compute ``attend`` with a mask, bool [B or 1, T, S], instead of the rule's; ``dropout`` acts
    on the weights.
    """
    b, h, t, d = query.shape
    kv, s = key.shape[1:3]
    # Heads of a group are rows of one product. Scaling queries costs less than scaling scores.
    grouped = (query * rule.scale).reshape(b, kv, (h // kv) * t, d)
    scores = multiply("bktd,bksd->bkts", grouped, key)
    if rule.softcap is not None:
        scores = rule.softcap * jnp.tanh(scores / rule.softcap)
    if mask is not None:
        scores = scores.reshape(b, h, t, s)
        scores = jnp.where(mask[:, None], scores, HIDDEN).reshape(b, kv, -1, s)
    weights = jax.nn.softmax(scores)
    if dropout is not None:
        weights = dropout(weights)
    return jnp.einsum("bkts,bksd->bktd", weights.astype(value.dtype), value).reshape(b, h, t, d)


def choose_form(
    implementation: Implementation,
    query: jax.Array,
    key: jax.Array,
    rule: Rule,
    segments: Segments = None,
    prefix: Prefix = None,
) -> Form:
    """Return the form that ``attend`` takes on the target platform; FLOPs are counted in the plain
    one, as kernels and blocks hide their products.

    Raises:
      UserError: "kernel" is chosen, and no kernel fits.
    """
    form: Form = "blocked" if key.shape[2] >= LONG else "xla"
    counted = target_platform() == COUNTED
    if implementation in ("xla", "blocked"):
        form = implementation
    else:
        found = choose_kernel(run_platform(), rule, query, key, segments, prefix)
        if not isinstance(found, Misfit):
            form = found
        elif implementation == "kernel" and not counted:
            raise UserError(
                f'attention must be "auto", "xla" or "blocked" {found.reason}: no kernel fits, '
                'got "kernel"',
                "attention",
            )
    note_form(f"attention: {WORDS[form]}")
    return "xla" if counted else form


class TokenAttention(nn.Module):
    """Self-attention, or with ``cross`` attention to a memory: [B, T, C] -> the same.

    Matrix products are on flat rows, as XLA is far slower on others on a CPU. Queries, keys and
    values have a matrix each: a joint one is no faster in training, and three times slower for a
    single token.

    Attributes:
      heads: query heads, H.
      kv_heads: key and value heads, K; divides H.
      head_width: width of a head, D.
      rule: scale of the scores, and which keys each query sees.
      implementation: see ``attend``; with a cache or attention dropout it is always "xla".
      bias: whether the projections of queries, keys and values have biases.
      last_bias: whether the output projection has a bias.
      qk_norm: epsilon of an RMS norm of each query and key (Dehghani et al., arXiv 2302.05442);
        None for none.
      dropout: share of the attention weights dropped in training.
      kernel_init: initializer of the projections.
      last_init: initializer of the output projection.
      cross: whether keys and values come from a memory.
      qk_norm_whole: whether the norm is over all heads at once (OLMo 2, arXiv 2501.00656).
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
    qk_norm_whole: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: LayerCache | None, shared: SharedInputs, train: bool
    ) -> tuple[jax.Array, LayerCache | None]:
        """Return the output and the updated cache."""
        b, t, c = x.shape
        query = self._project_heads(x, self.heads, "query")
        if self.cross:
            mixed, cache = self._attend_cross(query, cache, shared, train)
        else:
            mixed, cache = self._attend_self(x, query, cache, shared, train)
        flat = mixed.swapaxes(1, 2).reshape(b * t, -1)
        mix = nn.Dense(
            c,
            self.last_bias,
            dtype=x.dtype,
            kernel_init=self.last_init,
            dot_general=multiply_rows,
            name="mix",
        )
        out = mix(flat)
        return out.reshape(b, t, c), cache

    def _project_heads(self, x: jax.Array, heads: int, name: str) -> jax.Array:
        """Project [B, T, C] to heads [B, heads, T, D]."""
        b, t, c = x.shape
        dense = nn.Dense(
            heads * self.head_width,
            self.bias,
            dtype=x.dtype,
            kernel_init=self.kernel_init,
            dot_general=multiply_rows,
            name=name,
        )
        y = dense(x.reshape(b * t, c))
        norm = None
        if self.qk_norm is not None and name != "value":
            norm = nn.RMSNorm(self.qk_norm, dtype=y.dtype, name=f"{name}_norm")
        if norm is not None and self.qk_norm_whole:
            y = norm(y)
        y = y.reshape(b, t, heads, self.head_width)
        if norm is not None and not self.qk_norm_whole:
            y = norm(y)
        return y.swapaxes(1, 2)

    def _attend_self(
        self,
        x: jax.Array,
        query: jax.Array,
        cache: LayerCache | None,
        shared: SharedInputs,
        train: bool,
    ) -> tuple[jax.Array, LayerCache | None]:
        key, value = (self._project_heads(x, self.kv_heads, name) for name in ("key", "value"))
        if shared.table is not None:
            query, key = rotate(query, shared.table), rotate(key, shared.table)
        if cache is None:
            segments = None if shared.segments is None else (shared.segments, shared.segments)
            prefix = None if shared.prefix is None else (shared.prefix, shared.prefix)
            return self._attend(query, key, value, self.rule, segments, train, prefix), None
        assert shared.slots is not None
        key, value = write(cache.keys, key, shared.slots), write(cache.values, value, shared.slots)
        cache = cache._replace(keys=key, values=value)
        return attend_xla(
            query, self._read_cache(key, x), self._read_cache(value, x), self.rule, shared.mask
        ), cache

    def _read_cache(self, array: jax.Array, x: jax.Array) -> jax.Array:
        """Reshape an array of the cache for attention: [B*K, S, D] -> [B, K, S, D]."""
        return array.astype(x.dtype).reshape(len(x), self.kv_heads, *array.shape[1:])

    def _attend_cross(
        self, query: jax.Array, cache: LayerCache | None, shared: SharedInputs, train: bool
    ) -> tuple[jax.Array, LayerCache | None]:
        if shared.memory is not None:
            key, value = (
                self._project_heads(shared.memory, self.kv_heads, name) for name in ("key", "value")
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
        if shared.memory_mask is not None:
            ones = jnp.ones((query.shape[0], query.shape[2]), jnp.int32)
            segments = (
                ones if shared.segments is None else shared.segments,
                shared.memory_mask.astype(jnp.int32),
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
            # Parameters are made in float32, which kernels refuse; no output is read then.
            form: Implementation = "xla" if self.is_initializing() else self.implementation
            return attend(
                query, key, value, rule, segments=segments, prefix=prefix, implementation=form
            )
        mask = make_mask(
            rule, jnp.arange(query.shape[2]), jnp.arange(key.shape[2]), segments, prefix
        )
        dropout = nn.Dropout(self.dropout, deterministic=False, name="dropout")
        note_form(f"attention: {WORDS['xla']}")
        return attend_xla(query, key, value, rule, mask, dropout)
