"""The neural language model of Bengio et al. (JMLR 3, 2003): an MLP over the last few tokens."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks
from genjax.losses import multiply

NOTHING = -1  # an empty slot of the cache


class PastTokens(NamedTuple):
    """The last tokens of each row, int32 [B, past - 1]; -1 before the first."""

    tokens: jax.Array

    def take(self, rows: jax.Array) -> PastTokens:
        """The rows [N], in this order and as often as they are named."""
        return PastTokens(self.tokens[rows])

    def put(self, rows: jax.Array, other: PastTokens) -> PastTokens:
        """With the rows [N] of ``other`` in the places ``rows`` [N]; a place past the last row is
        dropped.
        """
        return PastTokens(self.tokens.at[rows].set(other.tokens, mode="drop"))


@checks.frozen
class NgramMLP:
    """A language model that concatenates the embeddings of the last few tokens and applies one tanh
    layer.

    Places before the first token of a row, or of a document, repeat that token: with a codec whose
    texts start with a delimiter, the first letter is predicted from delimiters alone. There are no
    direct connections from the embeddings to the logits.

    Attributes:
      past: number of tokens read, including the last.
      width: width of an embedding.
      hidden: units of the tanh layer.
      context: longest sequence, in tokens.
    """

    past: int = 3
    width: int = 10
    hidden: int = 200
    context: int = 1024

    logit_softcap: ClassVar[None] = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "past", "width", "hidden", "context")

    def module(self, vocabulary: int) -> NgramMLPNet:
        """Build the network over tokens 0 to vocabulary - 1."""
        return NgramMLPNet(self, vocabulary)

    def new_cache(self, batch: int, capacity: int) -> PastTokens:
        """Return an empty cache; its size does not depend on the capacity."""
        return PastTokens(jnp.full((batch, self.past - 1), NOTHING, jnp.int32))


class NgramMLPNet(nn.Module):
    """``NgramMLP`` with the methods of ``TokenNet``; its features are the hidden units.

    Weights start normal: embeddings with standard deviation 1; the hidden matrix with 5/3 over the
    root of its rows, which gives tanh units one near 1; the head with 0.01, so that all tokens
    start about equally likely.

    Attributes:
      net: hyper-parameters.
      vocabulary: number of tokens, V.
    """

    net: NgramMLP
    vocabulary: int

    def setup(self) -> None:
        net = self.net
        rows = net.past * net.width
        self.embedding = self.param(
            "embedding", nn.initializers.normal(1.0), (self.vocabulary, net.width)
        )
        self.hidden_kernel = self.param(
            "hidden_kernel", nn.initializers.normal(5 / 3 / rows**0.5), (rows, net.hidden)
        )
        self.hidden_bias = self.param("hidden_bias", nn.initializers.zeros, (net.hidden,))
        self.head_kernel = self.param(
            "head_kernel", nn.initializers.normal(0.01), (self.vocabulary, net.hidden)
        )
        self.head_bias = self.param("head_bias", nn.initializers.zeros, (self.vocabulary,))

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        cache: PastTokens | None = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, PastTokens | None]:
        """Return features [B, T, hidden] of tokens int32 [B, T], and the cache with the tokens in
        it.

        Args:
          positions: ignored, as tokens are distinguished by how far back they are.
          segment_ids: int32 [B, T]; nothing is read across a change of segment. With a cache only
              0, padding, matters: those tokens are skipped.
        """
        past = _past(tokens, segment_ids, self.net.past) if cache is None else None
        if cache is not None:
            past, cache = _gather_cached(tokens, segment_ids, cache)
        embedded = self.embedding.at[past].get(
            mode="fill", fill_value=jnp.nan
        )  # [B, T, past, width]
        flat = embedded.reshape(tokens.size, -1)
        hidden = jnp.tanh(flat @ self.hidden_kernel + self.hidden_bias[None])
        return hidden.reshape(*tokens.shape, -1), cache

    def head(self, hidden: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return rows [..., hidden], kernel [V, hidden] and bias [V]: logits = rows kernel^T +
        bias.
        """
        return hidden, self.head_kernel, self.head_bias

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Map features [..., hidden] to float32 logits [..., V]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        out = multiply("nd,vd->nv", flat, self.head_kernel)
        return (out + self.head_bias.astype(jnp.float32)[None]).reshape(*hidden.shape[:-1], -1)


def _past(tokens: jax.Array, segment_ids: jax.Array | None, past: int) -> jax.Array:
    """Return the last tokens at each position, the newest first, int32 [B, T, past]."""
    place = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    first = jnp.zeros_like(place)
    if segment_ids is not None:
        begins = jnp.diff(segment_ids, axis=1, prepend=segment_ids[:, :1]) != 0
        first = jax.lax.cummax(jnp.where(begins, place, 0), axis=1)
    each = jnp.maximum(place[..., None] - jnp.arange(past)[None, None], first[..., None])
    return jnp.take_along_axis(tokens[:, None], each.transpose(0, 2, 1), 2).transpose(0, 2, 1)


def _gather_cached(
    tokens: jax.Array, segment_ids: jax.Array | None, cache: PastTokens
) -> tuple[jax.Array, PastTokens]:
    """Return the same as ``_past`` when the cache's tokens come first, and the updated cache;
    padding gets the result of the token before it.
    """
    kept = cache.tokens.shape[1]
    known = jnp.concatenate([cache.tokens, tokens], 1)
    new = jnp.ones(tokens.shape, bool) if segment_ids is None else segment_ids > 0
    real = jnp.concatenate([cache.tokens != NOTHING, new], 1)
    order = jnp.argsort(~real, axis=1, stable=True)  # real tokens first, in order
    together = jnp.take_along_axis(known, order, 1)
    last = jnp.cumsum(real, 1)[:, kept:] - 1  # index among the real tokens, [B, T]
    each = jnp.maximum(last[..., None] - jnp.arange(kept + 1)[None, None], 0)
    past = jnp.take_along_axis(together[:, None], each.transpose(0, 2, 1), 2).transpose(0, 2, 1)
    back = last[:, -1:] - jnp.arange(kept)[::-1][None]
    after = jnp.take_along_axis(together, jnp.maximum(back, 0), 1)
    return past, PastTokens(jnp.where(back < 0, NOTHING, after))
