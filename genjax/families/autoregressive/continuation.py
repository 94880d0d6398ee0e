"""Continues a batch of prompts, each with its own source if the model reads one."""

from __future__ import annotations

import jax

from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import Params
from genjax.samplers.tokens.decoding import Drawing, Prompts, Stops, TokenSampler, generate


def continue_prompts(
    family: Autoregressive,
    params: Params,
    prompts: Prompts,
    options: TokenSampler,
    key: jax.Array,
    stops: Stops = (),
    pad: int = 0,
    source: tuple[jax.Array, jax.Array] | None = None,
) -> Drawing:
    """Continue each prompt, in one compiled loop, until all rows have a stop or ``options.steps``
    tokens.

    Args:
      prompts: prompts of the rows.
      stops: token sequences that end a row.
      pad: token after the end of a row.
      source: source tokens int32 [B, S] of a model with an encoder, and a mask [B, S], 0 at
          padding.

    Raises:
      UserError: prompt and new tokens together exceed the context by more than one.
    """
    reader = family.read_rows(params, *(source or ()))
    rows, length = prompts.tokens.shape
    cache = reader.new_cache(rows, length + options.steps - 1)
    return generate(reader.model, cache, prompts, options, key, stops, pad)
