"""A table of which token follows which: the smallest model of tokens, and the floor of all
others.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax import checks


class NoCache(NamedTuple):
    """What a table keeps of the tokens before the last: nothing."""

    def take(self, rows: jax.Array) -> NoCache:
        return self

    def put(self, rows: jax.Array, other: NoCache) -> NoCache:
        return self

    def rewind(self, tokens: jax.Array) -> NoCache:
        return self


@checks.frozen
class Bigram:
    """Logits of the next token that depend on the last one alone.

    Attributes:
      context: the longest row.
    """

    context: int = 1024

    logit_softcap: ClassVar[None] = None

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "context")

    def module(self, vocabulary: int) -> BigramNet:
        """The network over tokens 0 to vocabulary - 1."""
        return BigramNet(vocabulary)

    def new_cache(self, batch: int, capacity: int) -> NoCache:
        """Stands where a transformer's cache does."""
        return NoCache()


class BigramNet(nn.Module):
    """The table [V, V] of ``Bigram``, with the methods of ``TokenNet``; it starts with equal
    probabilities.

    Attributes:
      vocabulary: V.
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
        """Logits [B, T, V] of tokens int32 [B, T], and the cache; what else a transformer is
        told changes nothing.
        """
        return self.table.at[tokens].get(mode="fill", fill_value=jnp.nan), cache

    def head(self, hidden: jax.Array) -> tuple[jax.Array, jax.Array, None]:
        """Features are logits already: the kernel is the identity [V, V]."""
        return hidden, jnp.eye(self.vocabulary, dtype=hidden.dtype), None

    def logits(self, hidden: jax.Array) -> jax.Array:
        return hidden.astype(jnp.float32)
