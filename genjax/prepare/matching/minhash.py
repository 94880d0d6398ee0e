"""Find near-duplicate texts by MinHash and locality-sensitive hashing.

Broder, 1997 ("On the resemblance and containment of documents"); Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.polynomial.polynomial import polypow
from scipy.special import bdtrc

from genjax import checks
from genjax.data.text.words import normalise_text
from genjax.errors import UserError
from genjax.prepare.matching.components import group_equal, group_similar

if TYPE_CHECKING:
    from daft import Expression, Series

EMPTY = np.uint32(2**32 - 1)  # all entries of the signature of a text without words
GRID = 1000  # Jaccard similarities at which bands are evaluated
ROWS = 2**12  # rows hashed together, to stay in the processor's cache
REACH = 256  # largest distance of compared texts in a bucket: a comparison reads a thousand bytes
SPREAD = np.uint64(0xD6E8FEB86659FD93)


@checks.frozen
class MinHash:
    """Joins texts whose sets of word n-grams are similar, holding only their signatures in memory.

    Two texts are compared if one band of their signatures is equal, and are duplicates if the
    fraction of equal entries, an estimate of their Jaccard similarity, reaches the threshold. Words
    are those of ``genjax.data.text.words.normalise_words``, which ignore case, white space and
    punctuation, but not signs and decimal points. A text shorter than an n-gram is a single n-gram,
    and a text without words, or a missing one, has no duplicates.

    Attributes:
      permutations: entries of a signature, 4 bytes each; the standard error of the estimate is at
        most 0.5 / sqrt(permutations).
      ngram: words in an n-gram.
      threshold: Jaccard similarity from which two texts are duplicates.
      bands: bands of a signature; None for the number with the fewest mistakes, see ``layout``.
      misses: weight, from 0 to 1, of missed pairs against needless comparisons when bands are
        chosen; the latter only cost time if pairs are checked.
      check: whether the estimate decides; otherwise a shared band is enough.
      seed: seed of the permutations.
    """

    permutations: int = 128
    ngram: int = 5
    threshold: float = 0.8
    bands: int | None = None
    misses: float = 0.9
    check: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        checks.at_least(self, 1, "permutations")
        checks.at_least(self, 1, "ngram")
        checks.numbers(self, ("threshold",), "above 0 and at most 1", lambda x: 0 < x <= 1)
        if self.bands is not None and not 1 <= self.bands <= self.permutations:
            raise UserError(
                f"minhash.bands must be from 1 to the {self.permutations} permutations, got "
                f"{self.bands}",
                "bands",
            )
        checks.between(self, 0, 1, "misses")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"minhash.seed must be from 0 to 2^32 - 1, got {self.seed}", "seed")

    @functools.cached_property
    def layout(self) -> tuple[int, int]:
        """Number of bands, and of rows in each.

        If bands are not given, they minimise the sum of the integrals of the recall below the
        threshold and of the missing recall above it, weighted by ``misses``, as in datasketch.
        """
        if self.bands is not None:
            return self.bands, self.permutations // self.bands
        similarity = (np.arange(GRID) + 0.5) / GRID
        above = similarity > self.threshold
        weights = np.where(above, self.misses, 1 - self.misses)
        every = [
            (b, r)
            for b in range(1, self.permutations + 1)
            for r in range(1, self.permutations // b + 1)
        ]
        wrong = [weights @ np.abs(above - s_curve(similarity, *layout)) for layout in every]
        return every[int(np.argmin(wrong))]

    def sign(self, text: Expression) -> Expression:
        """Return the signature [permutations] uint32 of a column of texts."""
        import daft

        worded = daft.func.batch(return_dtype=daft.DataType.string(), use_process=False)(
            _normalise_texts
        )
        return worded(text).minhash(
            num_hashes=self.permutations, ngram_size=self.ngram, seed=self.seed
        )

    def stack_signatures(self, chunks: Iterable[pa.FixedSizeListArray]) -> np.ndarray:
        """Return the signatures [N, permutations] uint32 of a column's chunks."""
        rows = [chunk.flatten().to_numpy().reshape(-1, self.permutations) for chunk in chunks]
        return np.concatenate([np.zeros((0, self.permutations), np.uint32), *rows])

    def cluster(self, signatures: np.ndarray) -> np.ndarray:
        """Return the group [N] int64 of each text, the smallest index among its duplicates.

        Bands are processed one after another, so that only the signatures [N, permutations] uint32
        take much memory.

        Raises:
          UserError: the signatures have another shape or type.
        """
        if signatures.dtype != np.uint32 or signatures.shape[1:] != (self.permutations,):
            raise UserError(
                f"signatures must be [N, {self.permutations}] uint32, got "
                f"{list(signatures.shape)} {signatures.dtype}"
            )
        whole = _hashes(signatures)
        filled = np.flatnonzero(whole != _hashes(np.full((1, self.permutations), EMPTY)))
        first = group_equal(whole[filled])  # joins any number of equal signatures at once
        distinct, inverse = np.unique(first, return_inverse=True)
        rows = filled[distinct]
        bands, size = self.layout
        keys = (
            _hashes(signatures[:, band * size : (band + 1) * size])[rows] for band in range(bands)
        )

        def same(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            return (signatures[rows[left]] == signatures[rows[right]]).sum(1) >= self._enough

        found = group_similar(keys, same if self.check else None, np.arange(len(rows)), REACH)
        group = np.arange(len(signatures))
        group[filled] = rows[found[inverse]]
        return group

    @property
    def _enough(self) -> int:
        """Number of equal entries from which two texts are duplicates."""
        return math.ceil(self.threshold * self.permutations - 1e-9)

    def recall(self, jaccard: np.ndarray) -> np.ndarray:
        """Return the probability [N] that two texts with a Jaccard similarity [N] are joined
        directly.

        It is the S-curve of the bands; if pairs are checked, enough entries must be equal as well,
        each with the probability of the similarity.
        """
        if not self.check:
            return s_curve(jaccard, *self.layout)
        return bdtrc(self._enough - 1, self.permutations, jaccard) - [
            self._compute_miss_probability(s) for s in jaccard
        ]

    def _compute_miss_probability(self, similarity: float) -> float:
        """Return the probability that enough entries are equal, but no band: the coefficients of
        x^k, the probabilities of k equal entries, in ((1 - s + s x)^rows - (s x)^rows)^bands (1 - s
        + s x)^rest.
        """
        bands, rows = self.layout
        one = np.array([1 - similarity, similarity])
        band = polypow(one, rows)
        band[-1] = 0
        counts = np.convolve(polypow(band, bands), polypow(one, self.permutations - bands * rows))
        return float(counts[self._enough :].sum())


def s_curve(similarity: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Return the probability [...] that sets with a Jaccard similarity [...] share a band."""
    return 1 - (1 - similarity**rows) ** bands


def _normalise_texts(texts: Series) -> pa.Array:
    """Return the texts' normalised words with spaces between; "" for a missing text."""
    return pa.array(
        [normalise_text(text) if text else "" for text in texts.to_pylist()], pa.large_string()
    )


def _hashes(entries: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash [N] of each row of entries [N, K]."""
    found = np.empty(len(entries), np.uint64)
    for begin in range(0, len(entries), ROWS):
        part = entries[begin : begin + ROWS]
        state = np.full(len(part), part.shape[1], np.uint64)
        for column in part.T:
            state = (state ^ column) * SPREAD
            state ^= state >> np.uint64(32)
        found[begin : begin + ROWS] = state
    return found
