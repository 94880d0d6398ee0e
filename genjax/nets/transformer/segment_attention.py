"""Attention by the kernels of accelerators: memory grows with T, and scores stay on the chip.

- *splash* (TPU): Pallas' splash attention, which knows segments, windows, soft-caps and grouped
  heads; - *triton* (GPU): Pallas' flash attention, for packed rows; - *cudnn* (GPU): the fused
  kernel of cuDNN, for whole rows, as it knows lengths but not segments.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from genjax.machine.target import map_rows
from genjax.nets.transformer.blocked_attention import Prefix, Rule, Segments

Kernel = Literal["splash", "triton", "cudnn"]
LANES = 128  # rows are padded to a multiple of this many tokens


class Misfit(NamedTuple):
    """Why no kernel of a platform computes an attention, in words that end a sentence."""

    reason: str


def choose_kernel(
    platform: str,
    rule: Rule,
    query: jax.Array,
    key: jax.Array,
    segments: Segments,
    prefix: Prefix,
) -> Kernel | Misfit:
    """Choose the kernel for queries [B, H, T, D] and keys [B, K, S, D] on "cpu", "gpu" or
    "tpu".
    """
    if platform not in ("gpu", "tpu"):
        return Misfit(f"on a {platform}")
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return Misfit(f'in {query.dtype}; use precision="bfloat16"')
    if prefix is not None:
        return Misfit("for a bidirectional prefix")
    length, width = query.shape[2:]
    own = segments is None or segments[0] is segments[1]
    if key.shape[2] != length or not own:
        return Misfit("for attention to other tokens than a row's own")
    if length < LANES:
        return Misfit(f"for fewer than {LANES} tokens, got {length}")
    if width % 8 or not 16 <= width <= 128:
        return Misfit(f"for heads whose width is not 16 to 128 in steps of 8, got {width}")
    if platform == "tpu":
        return "splash"
    if rule.softcap is not None:
        return Misfit("of a GPU with a soft-cap")
    if rule.window is not None and (segments is not None or not rule.causal):
        return Misfit("of a GPU for a window that is not causal or has packed or padded rows")
    return "cudnn" if segments is None else "triton"


def attend_kernel(
    kernel: Kernel,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    rule: Rule,
    segments: Segments = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Compute ``token_attention.attend`` by a kernel that ``choose_kernel`` has chosen: [B, H, T,
    D], [B, K, T, D], [B, K, T, D] -> [B, H, T, D].

    Where rows are split over devices, each device computes its own.

    Args:
      interpret: whether to compute the kernel without its device, operation by operation, for
        tests.
    """
    ids = None if segments is None else segments[0]
    if kernel == "cudnn":  # XLA itself splits it over devices
        return _attend_cudnn(query, key, value, rule)
    run = _attend_splash if kernel == "splash" else _attend_triton
    length = query.shape[2]
    if ids is None and length % LANES and not rule.causal:
        ids = jnp.ones((len(query), length), jnp.int32)  # padding is a segment of its own
    pad = -length % LANES
    padded = [jnp.pad(x, ((0, 0), (0, 0), (0, pad), (0, 0))) for x in (query, key, value)]
    if ids is not None:
        padded.append(jnp.pad(ids, ((0, 0), (0, pad)), constant_values=-1))
    return map_rows(lambda *arrays: run(rule, interpret, *arrays), *padded)[:, :, :length]


def _attend_splash(
    rule: Rule,
    interpret: bool,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    ids: jax.Array | None = None,
) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel,
        splash_attention_mask,
    )

    heads, length = query.shape[1:3]
    shape = (length, length)
    mask: Any
    if rule.window is not None:
        reach = rule.window - 1
        mask = splash_attention_mask.LocalMask(shape, (reach, 0 if rule.causal else reach), 0)
    elif rule.causal:
        mask = splash_attention_mask.CausalMask(shape)
    else:
        mask = splash_attention_mask.FullMask(shape)
    block = next(size for size in (512, 256, LANES) if length % size == 0)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    kernel = splash_attention_kernel.make_splash_mha_single_device(
        splash_attention_mask.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        attn_logits_soft_cap=rule.softcap,
        interpret=interpret,
    )

    def attend_row(q: jax.Array, k: jax.Array, v: jax.Array, *ids: jax.Array) -> jax.Array:
        out: jax.Array = kernel(
            q, k, v, *(splash_attention_kernel.SegmentIds(row, row) for row in ids)
        )
        return out

    rows = (query * rule.scale, key, value)
    return jax.vmap(attend_row)(*rows, *(() if ids is None else (ids,)))


def _attend_triton(
    rule: Rule,
    interpret: bool,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    ids: jax.Array | None = None,
) -> jax.Array:
    from jax.experimental.pallas.ops.gpu import attention

    group = query.shape[1] // key.shape[1]
    # The kernel has no grouped heads; a copy of keys and values costs little beside the products.
    key, value = (jnp.repeat(x, group, axis=1) for x in (key, value))
    # Blocks that fit in the shared memory of small GPUs, too.
    queries = 128 if query.shape[-1] <= 64 else 64
    sizes = attention.BlockSizes(queries, 64, 32, 32, 32, 32)
    out = attention.mha(
        *(x.swapaxes(1, 2) for x in (query, key, value)),
        ids,
        sm_scale=rule.scale,
        causal=rule.causal,
        block_sizes=sizes,
        interpret=interpret,
    )
    return out.swapaxes(1, 2)


def _attend_cudnn(query: jax.Array, key: jax.Array, value: jax.Array, rule: Rule) -> jax.Array:
    window = None if rule.window is None else (rule.window - 1, 0)
    out = jax.nn.dot_product_attention(
        *(x.swapaxes(1, 2) for x in (query, key, value)),
        scale=rule.scale,
        is_causal=rule.causal,
        local_window_size=window,
        implementation="cudnn",
    )
    return out.swapaxes(1, 2)
