"""Rows of tokens continued side by side, each from a prompt and, where the model reads one, a
source of its own.
"""

from __future__ import annotations

import jax

from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.family import Params
from genjax.samplers.tokens.decoding import Drawing, Stops, TokenSampler, generate


def continue_prompts(
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
    """What is drawn after each prompt, in one compiled loop until all rows have met a stop or have
    ``options.steps``.

    Args:
      prompts: int32 [B, T], left-padded.
      mask: bool [B, T], True for real tokens.
      stops: sequences of tokens that end a row.
      pad: what stands behind the end of a row.
      source: int32 [B, S] of a model with an encoder, with ``source_mask`` [B, S], 0 where it is
        padding.

    Raises:
      UserError: prompt and new tokens together are more than the context and the token after it.
    """
    reader = family.read_rows(params, source, source_mask)
    cache = reader.new_cache(len(prompts), prompts.shape[1] + options.steps - 1)
    return generate(reader.model, cache, prompts, mask, options, key, stops, pad)
