"""Chooses which tokens a masked language model predicts, and what it reads instead of them.

Single tokens, of which 80 % are masked, 10 % random and 10 % kept: BERT (Devlin et al., arXiv
1810.04805), with new masks each time a text is seen, as in RoBERTa (Liu et al., arXiv 1907.11692).
Spans: SpanBERT (Joshi et al., arXiv 1907.10529), but of tokens instead of words, with masked,
random or kept decided for each token of a span.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from genjax import checks
from genjax.errors import UserError

Unit = Literal["tokens", "words", "spans"]


class Kinds(NamedTuple):
    """What masking needs to know about the tokens of a vocabulary.

    Attributes:
      mask: mask token.
      special: bool [V], tokens that are not text and never masked.
      ordinary: int32 [A], all other tokens.
      continues: bool [V], tokens that continue a word if the token before is in ``continued``.
      continued: bool [V], tokens after which a word may continue.
    """

    mask: jax.Array
    special: jax.Array
    ordinary: jax.Array
    continues: jax.Array
    continued: jax.Array


@checks.frozen
class Masking:
    """How many and which tokens are masked, and what is read instead of them.

    Attributes:
      unit: single "tokens", whole "words", or "spans" of consecutive tokens.
      rate: expected share of tokens to predict.
      masked: share of those that are replaced by the mask token.
      random: share of those that are replaced by a random token; the rest is left unchanged.
      span_end: probability that a span ends after each of its tokens.
      longest: maximum length of a span, in tokens.
    """

    unit: Unit = "tokens"
    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    span_end: float = 0.2
    longest: int = 10

    def __post_init__(self) -> None:
        checks.inside(self, 0, 1, "rate")
        checks.between(self, 0, 1, "masked", "random")
        if self.masked + self.random > 1:
            raise UserError(
                f"masked and random must add up to at most 1, got {self.masked} and {self.random}",
                "masked",
            )
        checks.numbers(self, ("span_end",), "above 0 and at most 1", lambda x: 0 < x <= 1)
        checks.at_least(self, 1, "longest")

    def __call__(
        self, key: jax.Array, tokens: jax.Array, real: jax.Array, kinds: Kinds
    ) -> tuple[jax.Array, jax.Array]:
        """Mask tokens [B, T]: return the inputs, int32 [B, T], and which tokens to predict, bool
        [B, T]. ``real`` [B, T] is False at padding.

        A span may run into the next document of the row, which does no harm.
        """
        which, how, what = jax.random.split(key, 3)
        chosen = self._choose(which, tokens, kinds) & real & ~kinds.special[tokens]
        share = jax.random.uniform(how, tokens.shape)
        drawn = kinds.ordinary[jax.random.randint(what, tokens.shape, 0, len(kinds.ordinary))]
        placed = jnp.where(
            share < self.masked,
            kinds.mask,
            jnp.where(share < self.masked + self.random, drawn, tokens),
        )
        return jnp.where(chosen, placed, tokens), chosen

    def _choose(self, key: jax.Array, tokens: jax.Array, kinds: Kinds) -> jax.Array:
        if self.unit == "spans":
            return self._choose_spans(key, tokens.shape)
        chosen = jax.random.bernoulli(key, self.rate, tokens.shape)
        return (
            jnp.take_along_axis(chosen, number_words(tokens, kinds), 1)
            if self.unit == "words"
            else chosen
        )

    def _choose_spans(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return the tokens covered by spans, bool [B, T]. Spans may start before the row, so that
        all tokens are covered equally often.
        """
        one, two = jax.random.split(key)
        b, t = shape
        starts = jax.random.bernoulli(one, self.span_start, (b, t + self.longest - 1))
        if self.span_end == 1:
            return starts[:, self.longest - 1 :]
        # The length is above l with probability (1 - span_end)^l.
        length = 1 + jnp.floor(
            jnp.log1p(-jax.random.uniform(two, starts.shape)) / jnp.log1p(-self.span_end)
        )
        covered = jnp.zeros(shape, bool)
        for ago in range(self.longest):
            first = self.longest - 1 - ago
            covered |= (starts & (length > ago))[:, first : first + t]
        return covered

    @property
    def span_start(self) -> float:
        """The probability that a span starts at a token, for which spans cover ``rate`` of all
        tokens.

        A token is not covered if none of the last ``longest`` tokens starts a span that reaches it:
        1 - rate = prod over l of (1 - start (1 - span_end)^l).
        """
        low, high = 0.0, self.rate
        for _ in range(60):
            start = (low + high) / 2
            left = 1.0
            for ago in range(self.longest):
                left *= 1 - start * (1 - self.span_end) ** ago
            low, high = (start, high) if 1 - left < self.rate else (low, start)
        return (low + high) / 2


def number_words(tokens: jax.Array, kinds: Kinds) -> jax.Array:
    """Return the number of the word, from 0 in each row, that each of tokens [B, T] belongs to."""
    before = jnp.pad(kinds.continued[tokens[:, :-1]], ((0, 0), (1, 0)))
    begins = ~(kinds.continues[tokens] & before)
    return jnp.cumsum(begins, 1) - 1
