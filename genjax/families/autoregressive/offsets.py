"""Losses of the tokens after the next one, for nets with heads for them (multi-token prediction:
Gloeckle et al., arXiv 2404.19737).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax

from genjax.data.text.augment import real_mask
from genjax.family import Batch, Mean, Metrics


def weigh_targets(batch: Batch, offset: int, prefix_lm: bool = False) -> jax.Array:
    """Return the weights [B, T + 1 - offset] of the tokens ``offset`` after each position: 1 if the
    token is to be predicted and of the same document, else 0.

    Args:
      batch: batch of tokens [B, T + 1].
      offset: 1 for the next token.
      prefix_lm: whether tokens of the prefix are input only.
    """
    weight = batch["loss_mask"][:, offset:] * batch["mask"][:, None]
    if prefix_lm:
        weight = weight * (1 - batch["prefix_mask"][:, offset:])
    if offset > 1 and "segment_ids" in batch:  # no first token of a document is to be predicted
        segments = batch["segment_ids"]
        weight = weight * (segments[:, offset:] == segments[:, :-offset])
    return weight


def count_inputs(batch: Batch) -> jax.Array:
    """Return [B, T]: 1 for tokens that are read and not padding, else 0."""
    return real_mask(batch)[:, :-1] * batch["mask"][:, None]


def name_offsets(later: Sequence[Mean]) -> Metrics:
    """Name the losses of the second token, the third and so on."""
    return {f"nll_{offset}": nll for offset, nll in enumerate(later, 2)}
