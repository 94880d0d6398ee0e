"""A noise schedule that is learned: a function of time that only rises."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError

FLOOR = 1e-3  # the share of the rise that is linear whatever the network does


def _inverse_softplus(y: float) -> float:
    return float(y + np.log(-np.expm1(-y)))


class MonotoneSchedule(nn.Module):
    """gamma(t) = -log SNR, strictly increasing (Kingma et al., arXiv 2107.00630, appendix H): [...]
    -> float32 [...].

    gamma(0) is the parameter `start` and gamma(1) = start + softplus(`gap`), so that the end is
    never before the start. Between them goes l1(t) + l3(sigmoid(l2(l1(t)))) with positive weights,
    rescaled to [0, 1]. A thousandth of the rise is linear, so that it stays strict in float32 where
    the sigmoids are saturated.

    Attributes:
        first: gamma(0) at initialisation.
        last: gamma(1) at initialisation, larger.
        features: Sigmoids.
    """

    first: float = -13.3
    last: float = 5.0
    features: int = 1024

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        if not self.first < self.last:
            raise UserError(
                f"gamma rises from first to last, but {self.first} is not below {self.last}"
            )
        n = (self.features,)
        start = self.param("start", nn.initializers.constant(self.first), ())
        gap = self.param(
            "gap", nn.initializers.constant(_inverse_softplus(self.last - self.first)), ()
        )
        slope = (
            nn.softplus(self.param("slope", nn.initializers.constant(_inverse_softplus(1.0)), ()))
            + FLOOR
        )
        offset = self.param("offset", nn.initializers.zeros, ())
        weight = nn.softplus(self.param("weight", nn.initializers.normal(1.0), n))
        bias = self.param("bias", nn.initializers.normal(1.0), n)
        mix = nn.softplus(self.param("mix", nn.initializers.normal(1.0), n)) / self.features

        def risen(t: jax.Array) -> jax.Array:
            """What the network has gained since t = 0, as a sum of products that are not
            negative: no cancellation.
            """
            line = slope * t  # [N]
            begin, step = (weight * offset + bias)[None], line[:, None] * weight[None]
            # sigmoid(begin + step) - sigmoid(begin)
            gained = (
                nn.sigmoid(begin + step) * nn.sigmoid(-begin) * -jnp.expm1(-step)
            )  # [N, features]
            return line + (gained * mix[None]).sum(-1)

        flat = t.astype(jnp.float32).reshape(-1)
        share = FLOOR * flat + (1 - FLOOR) * (risen(flat) / risen(jnp.ones(1)))
        return (start + nn.softplus(gap) * share).reshape(t.shape)
