"""A bigram table: the smallest language model, and the baseline for all others."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks


class NoCache(NamedTuple):
    """The cache of a bigram table, which is empty: earlier tokens do not matter."""

    def take(self, rows: jax.Array) -> NoCache:
        return self

    def put(self, rows: jax.Array, other: NoCache) -> NoCache:
        return self

    def rewind(self, tokens: jax.Array) -> NoCache:
        return self


@checks.frozen
class Bigram:
    """A language model whose next-token logits depend on the last token alone.

    Attributes:
      context: longest sequence, in tokens.
    """

    context: int = 1024

    logit_softcap: ClassVar[None] = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "context")

    def module(self, vocabulary: int) -> BigramNet:
        """Build the network over tokens 0 to vocabulary - 1."""
        return BigramNet(vocabulary)

    def new_cache(self, batch: int, capacity: int) -> NoCache:
        """Return the empty cache, with the arguments of a transformer's."""
        return NoCache()


class BigramNet(nn.Module):
    """The table [V, V] of ``Bigram``, with the methods of ``TokenNet``; it starts with equal
    probabilities.

    Attributes:
      vocabulary: number of tokens, V.
    """

    vocabulary: int

    def setup(self) -> None:
        self.table = self.param("table", nn.initializers.zeros, (self.vocabulary, self.vocabulary))

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        cache: Any = None,
        *,
        train: bool = False,
    ) -> tuple[jax.Array, Any]:
        """Return logits [B, T, V] of tokens int32 [B, T], and the cache; the other arguments are
        ignored.
        """
        return self.table.at[tokens].get(mode="fill", fill_value=jnp.nan), cache

    def head(self, hidden: jax.Array) -> tuple[jax.Array, jax.Array, None]:
        """Return the features, which already are logits, and the identity [V, V] as the kernel."""
        return hidden, jnp.eye(self.vocabulary, dtype=hidden.dtype), None

    def logits(self, hidden: jax.Array) -> jax.Array:
        return hidden.astype(jnp.float32)
