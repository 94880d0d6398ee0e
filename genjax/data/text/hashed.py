"""Text as a vector without a trained network: hashed words and pairs of words."""

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

    The random signs of a word or pair are a hash of its letters, so every process and machine has
    the same ones without a vocabulary (the hashing trick of arXiv 0902.2206). Case and the marks of
    a sentence do not count, signs and operators do (see ``genjax.data.text.words.compared_words``).
    The sum is scaled to the length sqrt(width), so that its entries are about 1, as networks like
    them. n words have 2n - 1 signs in each entry, an odd number, so that no entry is ever 0: zeros
    are free to mean no text.

    Attributes:
      width: of the embedding; texts of different words are the nearer to orthogonal, the wider it
        is.
    """

    width: int = 64

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "width")

    def embed(self, text: str) -> np.ndarray:
        """float32 [width].

        Raises:
          UserError: the text has no words.
        """
        words = normalise_words(text)
        if not words:
            raise UserError(f"a text to embed has words, but {text!r} has none")
        pairs = (f"{a} {b}" for a, b in itertools.pairwise(words))
        total = np.sum(
            [self._hash_signs(part) for part in (*words, *pairs)], axis=0, dtype=np.float64
        )
        return (total * np.sqrt(self.width / np.square(total).sum())).astype(np.float32)

    def _hash_signs(self, part: str) -> np.ndarray:
        """-1 and 1 [width] int8 of a word or a pair."""
        content = HALF.sub("\N{REPLACEMENT CHARACTER}", part).encode()
        bits = np.frombuffer(hashlib.shake_256(content).digest(-(-self.width // 8)), np.uint8)
        return 2 * np.unpackbits(bits)[: self.width].astype(np.int8) - 1
