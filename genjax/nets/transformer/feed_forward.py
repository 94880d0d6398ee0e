"""The feed-forward layer of a transformer block, plain or gated."""

from __future__ import annotations

from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax.errors import unknown_name
from genjax.nets.transformer.product import multiply_rows

Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "silu", "swiglu", "geglu", "geglu_exact"]
GATED = ("swiglu", "geglu", "geglu_exact")


def check_activation(name: str) -> None:
    """Refuse an unknown activation, and suggest the nearest name."""
    if name not in get_args(Activation):
        raise unknown_name("activation", name, get_args(Activation))


def activate(name: Activation, x: jax.Array) -> jax.Array:
    """Apply the activation elementwise; for a gated form, that of its gate.

    "gelu" is exact and "gelu_tanh" is GPT-2's approximation; "relu2" is the square of relu (So et
    al., arXiv 2109.08668). Of the gated forms "geglu" has the approximation, "geglu_exact" not.
    """
    match name:
        case "relu2":
            return jnp.square(nn.relu(x))
        case "gelu" | "geglu_exact":
            return exact_gelu(x)
        case "gelu_tanh" | "geglu":
            return nn.gelu(x, approximate=True)
        case "silu" | "swiglu":
            return nn.silu(x)
        case _:
            return nn.relu(x)


@jax.custom_vjp
def exact_gelu(x: jax.Array) -> jax.Array:
    """Compute x Phi(x), Phi being the normal distribution function; reverse mode only.

    By ``erf``, a polynomial in one pass, and with a gradient that keeps only x: that of
    ``jax.nn.gelu`` by ``erfc`` takes three passes and keeps their results.
    """
    return (x * _normal_cdf(x)).astype(x.dtype)


def _normal_cdf(x: jax.Array) -> jax.Array:
    """Compute Phi(x) in float32: 1 + erf loses digits where x is low."""
    return 0.5 + 0.5 * jax.lax.erf(x.astype(jnp.float32) * np.float32(0.5**0.5))


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return exact_gelu(x), x


def _gelu_backward(x: jax.Array, slope: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.float32)
    density = np.float32((2 * np.pi) ** -0.5) * jnp.exp(-0.5 * jnp.square(wide))
    return ((slope * (_normal_cdf(x) + wide * density)).astype(x.dtype),)


exact_gelu.defvjp(_gelu_forward, _gelu_backward)


class FeedForward(nn.Module):
    """Two dense layers with an activation in between, on flat rows: [N, D] -> the same.

    A gated form (Shazeer, arXiv 2002.05202) multiplies the activated ``gate`` by ``up``, a third
    matrix.

    Attributes:
      hidden: width of the hidden layer.
      activation: activation, see ``activate``.
      bias: whether each layer has a bias.
      kernel_init: initializer of ``gate`` and ``up``.
      last_init: initializer of ``down``.
    """

    hidden: int
    activation: Activation
    bias: bool
    kernel_init: nn.initializers.Initializer
    last_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def dense(
            width: int, name: str, init: nn.initializers.Initializer = self.kernel_init
        ) -> nn.Dense:
            return nn.Dense(
                width,
                self.bias,
                dtype=x.dtype,
                kernel_init=init,
                dot_general=multiply_rows,
                name=name,
            )

        y = dense(self.hidden, "up")(x)
        if self.activation in GATED:
            y = activate(self.activation, dense(self.hidden, "gate")(x)) * y
        else:
            y = activate(self.activation, y)
        return dense(x.shape[-1], "down", self.last_init)(y)
