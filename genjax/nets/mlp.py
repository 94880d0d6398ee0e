"""Multi-layer perceptrons, and the encoder, decoder and backbone made of them."""

from __future__ import annotations

import math
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import unknown_name

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh"]
LEAK = 0.2  # slope below 0, as in DCGAN (Radford et al., arXiv 1511.06434)


def check_activation(name: str) -> None:
    """Refuse an unknown activation, and suggest the nearest name."""
    if name not in get_args(Activation):
        raise unknown_name("activation", name, get_args(Activation))


def activate(name: Activation, x: jax.Array) -> jax.Array:
    """Apply the activation of this name elementwise."""
    if name == "leaky_relu":
        return nn.leaky_relu(x, LEAK)
    return {"relu": nn.relu, "gelu": nn.gelu, "silu": nn.silu, "tanh": jnp.tanh}[name](x)


class MLP(nn.Module):
    """Dense layers with an activation after each but the last: [B, ...] -> [B, outputs].

    The input is flattened to [B, D] first: on a CPU the gradient of a Dense over several batch axes
    is far slower. The last layer is named ``output``: its ``bias`` [outputs] can be overwritten
    after ``init``, for example with the logit of the data's mean.
    """

    hidden: tuple[int, ...]
    outputs: int
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)  # [B, D]
        for i, width in enumerate(self.hidden):
            x = activate(self.activation, nn.Dense(width, name=f"hidden_{i}")(x))
        return nn.Dense(self.outputs, name="output")(x)


class MLPDecoder(nn.Module):
    """An MLP with shaped outputs: [B, Z] -> [B, *shape]; the last bias is at
    ``mlp/output/bias``.
    """

    shape: tuple[int, ...]
    hidden: tuple[int, ...]
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        y = MLP(self.hidden, math.prod(self.shape), self.activation, name="mlp")(z)
        return y.reshape(z.shape[0], *self.shape)


@checks.frozen
class MLPCoder:
    """Encoder and decoder as perceptrons, for data of any shape.

    Attributes:
      hidden: widths of the encoder's hidden layers; the decoder reverses them. Empty for linear
        maps.
      activation: activation after each hidden layer.
    """

    hidden: tuple[int, ...] = (400,)
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "hidden")
        check_activation(self.activation)

    def encoder(self, outputs: int) -> nn.Module:
        """Build the network: [B, *shape] -> [B, outputs]."""
        return MLP(self.hidden, outputs, self.activation)

    def decoder(self, shape: tuple[int, ...], outputs_per_dim: int = 1) -> nn.Module:
        """Build the network: [B, Z] -> [B, *shape], the last axis times ``outputs_per_dim``."""
        shape = (*shape[:-1], shape[-1] * outputs_per_dim)
        return MLPDecoder(shape, self.hidden[::-1], self.activation)


class MLPFeatures(nn.Module):
    """Dense layers, each with activation and dropout: [B, ...] -> [B, hidden[-1]]; with no layers
    it returns the flat input.
    """

    hidden: tuple[int, ...]
    activation: Activation = "relu"
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Return the features; ``mask`` is ignored, as there are no batch statistics."""
        x = x.reshape(x.shape[0], -1)  # [B, D]
        for i, width in enumerate(self.hidden):
            x = activate(self.activation, nn.Dense(width, name=f"hidden_{i}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return x


@checks.frozen
class MLPBackbone:
    """Features by a perceptron, for data of any shape.

    Attributes:
      hidden: widths; the last is the number of features. Empty returns the flat input, which makes
        a classifier on top a linear model.
      activation: activation after each layer.
      dropout: share of each layer's outputs dropped in training.
    """

    hidden: tuple[int, ...] = (512, 256)
    activation: Activation = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "hidden")
        check_activation(self.activation)
        checks.share(self, "dropout")

    def backbone(self, axis: str | None = None) -> nn.Module:
        """Build the network: [B, *shape] -> [B, hidden[-1]]; ``axis`` is for backbones with batch
        statistics.
        """
        return MLPFeatures(self.hidden, self.activation, self.dropout)
