"""Rows of tokens continued side by side, each from a prompt and, where the model reads one, a source of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from genjax.families.autoregressive import Autoregressive, _module
from genjax.family import Params
from genjax.nets.token_net import unstacked
from genjax.samplers.decoding import Drawing, Stops, TokenSampler, generate


def continued(
    family: Autoregressive,
    params: Params,
    prompts: jax.Array,
    mask: jax.Array,
    options: TokenSampler,
    key: jax.Array,
    stops: Stops = (),
    pad: int = 0,
    source: jax.Array | None = None,
    source_mask: jax.Array | None = None,
) -> Drawing:
    """What is drawn after each prompt, in one compiled loop until all rows have met a stop or have ``options.steps``.

    Args:
      prompts: int32 [B, T], padded at the beginning.
      mask: bool [B, T], True for real tokens.
      stops: sequences of tokens that end a row.
      pad: what stands behind the end of a row.
      source: int32 [B, S] of a model with an encoder, with ``source_mask`` [B, S], 0 where it is padding.

    Raises:
      UserError: prompt and new tokens together are more than the context and the token after it.
    """
    reads = "encoder" in params
    decoder = params["decoder"] if reads else params
    net = family._net(reads)
    if getattr(net, "scan_layers", False):  # token by token a loop over layers is slow
        net, decoder = dataclasses.replace(net, scan_layers=False), unstacked(decoder)
    module = _module(net, family._vocabulary(params))
    capacity = prompts.shape[1] + options.steps - 1
    if reads:
        assert source is not None and source_mask is not None, "a model with an encoder reads a source"
        memory = family._read(params["encoder"], source, source_mask)
        cache = net.new_cache(len(prompts), capacity, source.shape[1])
        nothing = jnp.zeros((len(prompts), 1), jnp.int32)  # padding, which leaves the memory alone in the cache
        _, cache = module.apply({"params": decoder}, nothing, None, nothing, memory, source_mask, cache=cache)
    else:
        cache = net.new_cache(len(prompts), capacity)

    def model(tokens: jax.Array, mask: jax.Array, cache: Any, last: int) -> tuple[jax.Array, Any]:
        hidden, cache = module.apply({"params": decoder}, tokens, None, mask.astype(jnp.int32), cache=cache)
        return module.apply({"params": decoder}, hidden[:, -last:], method="logits"), cache

    return generate(model, cache, prompts, mask, options, key, stops, pad)
