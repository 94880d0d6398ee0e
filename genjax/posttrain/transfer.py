"""Layer-wise fine-tuning of a Transformer: lower, more general layers learn more slowly or later.

Layer-wise learning rates and gradual unfreezing: Howard & Ruder, arXiv 1801.06146.
``Experiment.start_from`` sets what is loaded from another run, ``Optimizer.freeze`` what is not
trained.
"""

from __future__ import annotations

from typing import Any

from genjax.errors import UserError
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Factor, First

# Parameters below all layers.
BELOW = r"(^|/)(embedding|position_embedding|type_embedding|embedding_norm)(/|$)"


def layer_rates(net: Transformer, decay: float) -> tuple[tuple[str, Factor], ...]:
    """Return ``rates`` for an optimizer: full rate for the last layer and above, ``decay`` times
    that of the layer above for each other layer, and ``decay`` times the first layer's for the
    embeddings.

    A ``tied`` head counts as embeddings.

    Args:
      net: Transformer whose layers are matched, under any path.
      decay: factor per layer, above 0 and at most 1.
    """
    if not 0 < decay <= 1:
        raise UserError(f"decay must be > 0 and <= 1, got {decay}", "decay")
    factors = tuple(decay ** (net.layers - 1 - i) for i in range(net.layers))
    return ((BELOW, decay**net.layers), *_match_layers(net, factors))


def gradual_unfreezing(net: Transformer, updates: int) -> tuple[tuple[str, First], ...]:
    """Return ``unfreeze`` for an optimizer: parameters above the layers learn from the start, the
    last layer after ``updates`` updates, each layer below ``updates`` later, the embeddings last.

    Args:
      net: Transformer whose layers are matched, under any path.
      updates: updates between layers, at least 1.
    """
    if updates < 1:
        raise UserError(f"updates must be >= 1, got {updates}", "updates")
    firsts = tuple(updates * (net.layers - i) for i in range(net.layers))
    return ((BELOW, updates * (net.layers + 1)), *_match_layers(net, firsts))


def _match_layers(net: Transformer, values: tuple[Any, ...]) -> tuple[Any, ...]:
    if net.scan_layers:
        return ((r"(^|/)layers/", values),)
    return tuple((rf"(^|/)layer_{i}/", value) for i, value in enumerate(values))
