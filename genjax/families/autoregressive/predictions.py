"""Predictions of tokens from those before them: of the next one and, by nets with heads for it, of
those after it (multi-token prediction: Gloeckle et al., arXiv 2404.19737).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax

from genjax.checks import Component
from genjax.data.text.augment import real_mask
from genjax.family import Batch, Mean, Metrics, Params
from genjax.losses import chunked_cross_entropy


@runtime_checkable
class Attends(Protocol):
    """A net with attention, such as a ``Transformer``."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Component]]]
    attention: str
    causal: bool
    cross_attention: bool
    periods: tuple[int, ...]
    scan_layers: bool
    ahead: int


class Reading(NamedTuple):
    """What the decoder makes of the tokens of a batch.

    Attributes:
      module: its module.
      params: its parameters.
      features: [n, B, T, C], after all tokens but the last, of the next token and those after it;
        n is 1 unless they were requested.
      sown: what its modules sowed, see ``HasSideLosses``.
    """

    module: Any
    params: Params
    features: jax.Array
    sown: Mapping[str, Any]


class Predictions(NamedTuple):
    """Scores of the predictions of a batch, float32 [B, T] each.

    Attributes:
      nll: -log p(token | earlier tokens) in nats.
      log_total: log-sum-exp of the logits.
      weight: 1 for tokens that count, else 0.
    """

    nll: jax.Array
    log_total: jax.Array
    weight: jax.Array


def score_offset(
    read: Reading,
    batch: Batch,
    offset: int,
    softcap: float | None,
    chunk: int,
    *,
    prefix_lm: bool = False,
) -> Predictions:
    """Predict the tokens ``offset`` after each of the first T + 1 - offset of a batch.

    Args:
      read: features, of at least that many next tokens.
      batch: batch of tokens [B, T + 1].
      offset: 1 for the next token.
      softcap: bound on the logits; None for none.
      chunk: tokens whose logits are in memory at once.
      prefix_lm: whether tokens of the prefix are input only.
    """
    weight = weigh_targets(batch, offset, prefix_lm)
    hidden = read.features[offset - 1, :, : weight.shape[1]]
    rows, kernel, bias = read.module.apply({"params": read.params}, hidden, method="head")
    targets = batch["tokens"][:, offset:].reshape(-1)
    nll, log_total = chunked_cross_entropy(
        rows.reshape(len(targets), -1),
        kernel,
        targets,
        bias=bias,
        # Sorting out tokens without weight does not pay for a single chunk.
        weights=weight.reshape(-1) if len(targets) > chunk else None,
        softcap=softcap,
        chunk=chunk,
    )
    return Predictions(nll.reshape(weight.shape), log_total.reshape(weight.shape), weight)


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
