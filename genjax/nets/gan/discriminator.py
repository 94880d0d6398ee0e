"""A discriminator on top of a backbone: one logit per example, with labels by projection."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Discriminator(nn.Module):
    """A backbone and a linear head, with labels by projection (arXiv 1802.05637): [B, ...] ->
    logits [B].
    """

    backbone: nn.Module
    classes: int = 0
    minibatch_std: bool = False
    axis: str | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        label: jax.Array | None = None,
        mask: jax.Array | None = None,
        *,
        train: bool,
        **stage: Any,
    ) -> jax.Array:
        features = self.backbone(x, mask, train=train, **stage)  # [B, F]
        seen = features
        if self.minibatch_std:
            axis = None if self.is_initializing() else self.axis
            seen = jnp.concatenate([features, _batch_std(features, mask, axis)], axis=-1)
        logits = nn.Dense(1, name="head")(seen)[:, 0]
        if self.classes:
            logits += (
                nn.Embed(self.classes, features.shape[-1], name="label")(label) * features
            ).sum(-1)
        return logits


def _batch_std(features: jax.Array, mask: jax.Array | None, axis: str | None) -> jax.Array:
    """Return the standard deviation over the whole batch, averaged over features [B, F]: one
    number, repeated to [B, 1].
    """
    rows = jnp.ones(len(features), features.dtype) if mask is None else mask.astype(features.dtype)
    sums = rows.sum(), rows @ features, rows @ jnp.square(features)
    count, total, squares = sums if axis is None else jax.lax.psum(sums, axis)
    count = jnp.maximum(count, 1)
    variance = squares / count - jnp.square(total / count)
    return jnp.broadcast_to(jnp.sqrt(jnp.maximum(variance, 0) + 1e-8).mean(), (len(features), 1))
