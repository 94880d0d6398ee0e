"""Rows of tokens continued side by side, each from a prompt and, where the model reads one, a
source of its own.
"""

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
    """What is drawn after each prompt, in one compiled loop until all rows have met a stop or have
    ``options.steps``.

    Args:
      prompts: what the rows begin with.
      stops: sequences of tokens that end a row.
      pad: what stands behind the end of a row.
      source: of a model with an encoder its tokens int32 [B, S], and a mask [B, S], 0 where they
        are padding.

    Raises:
      UserError: prompt and new tokens together are more than the context and the token after it.
    """
    reader = family.read_rows(params, *(source or ()))
    rows, length = prompts.tokens.shape
    cache = reader.new_cache(rows, length + options.steps - 1)
    return generate(reader.model, cache, prompts, options, key, stops, pad)
