"""A learned noise schedule: a monotone network of time."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import UserError

# The share of the rise that is linear whatever the network does.
FLOOR = 1e-3


def _inverse_softplus(y: float) -> float:
    return float(y + np.log(-np.expm1(-y)))


class MonotoneSchedule(nn.Module):
    """gamma(t) = -log SNR, strictly increasing (Kingma et al., arXiv 2107.00630, appendix H): [...]
    -> float32 [...].

    gamma(0) is the parameter ``start`` and gamma(1) = start + softplus(``gap``) is always larger.
    In between it follows l1(t) + l3(sigmoid(l2(l1(t)))) with positive weights, rescaled to [0, 1].
    A thousandth of the rise is linear, so that gamma still increases in float32 where the sigmoids
    saturate.

    Attributes:
      first: gamma(0) at initialisation.
      last: gamma(1) at initialisation; above ``first``.
      features: number of sigmoids.
    """

    first: float = -13.3
    last: float = 5.0
    features: int = 1024

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        if not self.first < self.last:
            raise UserError(f"first must be < last ({self.last}), got {self.first}", "first")
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

        def rise(t: jax.Array) -> jax.Array:
            """Return the rise since t = 0, as a sum of non-negative products so that nothing
            cancels.
            """
            line = slope * t  # [N]
            begin, step = (weight * offset + bias)[None], line[:, None] * weight[None]
            # sigmoid(begin + step) - sigmoid(begin)
            gained = (
                nn.sigmoid(begin + step) * nn.sigmoid(-begin) * -jnp.expm1(-step)
            )  # [N, features]
            return line + (gained * mix[None]).sum(-1)

        flat = t.astype(jnp.float32).reshape(-1)
        share = FLOOR * flat + (1 - FLOOR) * (rise(flat) / rise(jnp.ones(1)))
        return (start + nn.softplus(gap) * share).reshape(t.shape)
