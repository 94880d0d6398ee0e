"""A Transformer as the backbone of a text classifier."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError
from genjax.nets.transformer.token_net import TokenNet
from genjax.nets.transformer.transformer import Transformer

Pool = Literal["mean", "first", "last"]


class PooledTokens(nn.Module):
    """Pooled features of tokens: int32 [B, T], -1 for padding -> [B, C]."""

    net: Transformer
    vocabulary: int
    pool: Pool

    @nn.compact
    def __call__(
        self, tokens: jax.Array, mask: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        real = tokens >= 0
        network = TokenNet(self.net, self.vocabulary, name="tokens")
        hidden = network(jnp.maximum(tokens, 0), segment_ids=real.astype(jnp.int32), train=train)[0]
        if self.pool == "first":
            return hidden[:, 0]
        count = real.sum(1)
        if self.pool == "last":
            return jnp.take_along_axis(hidden, jnp.maximum(count - 1, 0)[:, None, None], 1)[:, 0]
        weight = real / jnp.maximum(count, 1)[:, None]
        return jnp.einsum("btc,bt->bc", hidden, weight.astype(hidden.dtype))


@checks.frozen
class TokenBackbone:
    """The pooled last features of a Transformer: one vector per text.

    Attributes:
      net: Transformer; its head is left out.
      pool: "mean" over the tokens of a text, or the features of its "first" or "last" token.
    """

    reads_tokens: ClassVar[bool] = True

    net: Transformer = Transformer(causal=False)
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        if self.net.cross_attention:
            raise UserError(
                "cross_attention must be False: a classifier reads only its text", "cross_attention"
            )
        if self.net.ahead > 1:
            raise UserError(f"net.ahead must be 1 in a backbone, got {self.net.ahead}", "net.ahead")
        if self.net.causal and self.pool == "first":
            raise UserError(
                'pool must be "mean" or "last" for a causal net, whose first token sees no other, '
                'got "first"',
                "pool",
            )

    def backbone(self, axis: str | None = None, vocabulary: int | None = None) -> nn.Module:
        """Build the network: [B, T] -> [B, width]; its parameters are under ``tokens``."""
        if vocabulary is None:
            raise UserError("a TokenBackbone needs tokens, which these data do not have")
        biases = tuple(bias for bias in self.net.biases if bias != "head")
        net = dataclasses.replace(self.net, tied=True, head_transform=False, biases=biases)
        return PooledTokens(net, vocabulary, self.pool)
