"""Embeds text without a trained network, by hashing words and pairs of words."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np

from genjax import checks
from genjax.data.text.words import normalise_words
from genjax.errors import UserError
from genjax.serial.json_text import HALF


@checks.frozen
class HashedText:
    """Embeds a text as the sum of a random vector for each word and each pair of neighbouring
    words.

    The random signs of a word or pair are a hash of its letters, so every process and machine gets
    the same signs without a vocabulary (the hashing trick of arXiv 0902.2206). Case and punctuation
    are ignored, but not signs and operators (see ``genjax.data.text.words.normalise_words``). The
    sum is scaled to the length sqrt(width), so that its entries are about 1, which suits networks.
    Each entry sums the 2n - 1 signs of n words, an odd number, so it is never 0, and a vector of
    zeros can stand for no text.

    Attributes:
      width: width of the embedding; the wider, the closer to orthogonal are texts with different
        words.
    """

    width: int = 64

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "width")

    def embed(self, text: str) -> np.ndarray:
        """Return the embedding float32 [width] of a text.

        Raises:
          UserError: the text has no words.
        """
        words = normalise_words(text)
        if not words:
            raise UserError(f"a text to embed must have words, got {text!r}")
        pairs = (f"{a} {b}" for a, b in itertools.pairwise(words))
        total = np.sum(
            [self._hash_signs(part) for part in (*words, *pairs)], axis=0, dtype=np.float64
        )
        return (total * np.sqrt(self.width / np.square(total).sum())).astype(np.float32)

    def _hash_signs(self, part: str) -> np.ndarray:
        """Return the signs, -1 or 1, [width] int8 of a word or pair."""
        content = HALF.sub("\N{REPLACEMENT CHARACTER}", part).encode()
        bits = np.frombuffer(hashlib.shake_256(content).digest(-(-self.width // 8)), np.uint8)
        return 2 * np.unpackbits(bits)[: self.width].astype(np.int8) - 1
