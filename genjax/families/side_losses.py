"""Losses of a net's own, such as those that keep the loads of experts even, added to a family's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from genjax.checks import Component
from genjax.family import Mean, Metrics
from genjax.nets.transformer.experts import Side


@runtime_checkable
class HasSideLosses(Protocol):
    """A net whose modules sow, into ``collections``, what its own losses are computed from."""

    @property
    def collections(self) -> tuple[str, ...]: ...

    def compute_side(self, sown: Mapping[str, Any], real: jax.Array, axis: str | None) -> Side: ...


def list_sown(net: Component) -> list[str]:
    """Return the collections to collect when the net is applied, as ``mutable``; [] for none."""
    return list(net.collections) if isinstance(net, HasSideLosses) else []


def add_side(
    metrics: Metrics,
    net: Component,
    sown: Mapping[str, Any],
    real: jax.Array,
    axis: str | None = None,
) -> Metrics:
    """Add the net's losses to ``loss``, which then comes as ``nll`` as well, and its measures.

    Args:
      metrics: metrics with a ``loss``.
      net: hyper-parameters.
      sown: what the net sowed.
      real: [B, T], 1 for tokens that count, 0 for padding.
      axis: mapped axis over whose devices the batch is spread, if any.
    """
    if not sown or not isinstance(net, HasSideLosses):
        return metrics
    side = net.compute_side(sown, real, axis)
    loss, count = metrics["loss"], real.sum()
    # Both are means, but over different tokens; sums over devices are divided by the loss's weight.
    weights = jax.lax.stop_gradient((loss.weight, count))
    total, tokens = weights if axis is None else jax.lax.psum(weights, axis)
    added = (side.added * real).sum() * total / jnp.maximum(tokens, 1)
    joined = {"loss": Mean(loss.sum + added, loss.weight)}
    return {"nll": loss, **metrics, **joined, **_average(side, real)}


def measure_side(net: Component, sown: Mapping[str, Any], real: jax.Array) -> Metrics:
    """Return the net's measures alone, for an evaluation."""
    if not sown or not isinstance(net, HasSideLosses):
        return {}
    return _average(net.compute_side(sown, real, None), real)


def _average(side: Side, real: jax.Array) -> Metrics:
    return {
        name: Mean.of(jnp.broadcast_to(values, real.shape), real)
        for name, values in side.measures.items()
    }
