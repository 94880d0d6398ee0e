"""Fine-tuning a Transformer by the layer: lower ones, which know what is general, are moved less or
later.

Layer-wise learning rates and gradual unfreezing: Howard & Ruder, arXiv 1801.06146. What is taken
over from another run is said by ``Experiment.start_from``, what stands still by
``Optimizer.freeze``.
"""

from __future__ import annotations

from genjax.errors import UserError
from genjax.nets.transformer.transformer import Transformer
from genjax.optim import Factor, First

# what is below all layers
BELOW = r"(^|/)(embedding|position_embedding|type_embedding|embedding_norm)(/|$)"


def layer_rates(net: Transformer, decay: float) -> tuple[tuple[str, Factor], ...]:
    """For an optimizer's ``rates``: the last layer and what is above it learn at the full rate,
    each layer below at ``decay`` times that above it, the embeddings at ``decay`` times the first
    layer's.

    A head that is the table of embeddings (``tied``) is one of them.

    Args:
      net: whose layers, wherever its parameters lie.
      decay: above 0, at most 1.
    """
    if not 0 < decay <= 1:
        raise UserError(
            f"the decay of layers' learning rates is above 0 and at most 1, not {decay}"
        )
    factors = tuple(decay ** (net.layers - 1 - i) for i in range(net.layers))
    return ((BELOW, decay**net.layers), *_match_layers(net, factors))


def gradual_unfreezing(net: Transformer, updates: int) -> tuple[tuple[str, First], ...]:
    """For an optimizer's ``unfreeze``: what is above the layers learns from the start, the last
    layer after this many updates, each below as many later, the embeddings last.

    Args:
      net: whose layers, wherever its parameters lie.
      updates: from one to the next, at least 1.
    """
    if updates < 1:
        raise UserError(f"layers are unfrozen at least 1 update apart, not {updates}")
    firsts = tuple(updates * (net.layers - i) for i in range(net.layers))
    return ((BELOW, updates * (net.layers + 1)), *_match_layers(net, firsts))


def _match_layers(net: Transformer, values: tuple) -> tuple:
    if net.scan_layers:
        return ((r"(^|/)layers/", values),)
    return tuple((rf"(^|/)layer_{i}/", value) for i, value in enumerate(values))
