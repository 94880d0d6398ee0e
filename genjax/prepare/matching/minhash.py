"""Near-duplicate texts by MinHash and locality-sensitive hashing.

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

EMPTY = np.uint32(2**32 - 1)  # the whole signature of a text without a word
GRID = 1000  # Jaccard similarities at which bands are weighed
ROWS = 2**12  # hashed together, which stay in the processor's cache
REACH = (
    256  # how far apart in a bucket texts may be: their pairs take a thousand bytes each to look at
)
SPREAD = np.uint64(0xD6E8FEB86659FD93)


@checks.frozen
class MinHash:
    """Texts whose sets of word n-grams are much alike, in memory for their signatures alone.

    Two texts are tried where all rows of one band of their signatures are equal, and are one where
    the share of equal entries in all, an estimate of their Jaccard similarity, reaches the
    threshold. Words are those of ``genjax.data.text.words.compared_words``, without case, white
    space and the marks of a sentence, but with signs and decimal points: a text with fewer of them
    than an n-gram is one n-gram as a whole, and one without any, or a missing one, is like no
    other.

    Attributes:
      permutations: entries of a signature, 4 bytes each; the estimate's standard error is at most
        0.5 / sqrt of them.
      ngram: words in an n-gram.
      threshold: the Jaccard similarity from which on two texts are one.
      bands: of each signature; None for those that make the fewest mistakes, see ``layout``.
      misses: how much a missed pair weighs against one tried in vain, from 0 to 1, where bands
        are chosen; the latter costs no more than time if pairs are checked.
      check: whether the estimate decides, or a shared band is enough.
      seed: of the permutations.
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
                f"minhash.bands is from 1 to the {self.permutations} permutations, not {self.bands}"
            )
        checks.between(self, 0, 1, "misses")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"minhash.seed is from 0 to 2^32 - 1, not {self.seed}")

    @functools.cached_property
    def layout(self) -> tuple[int, int]:
        """(bands, rows of each). Where bands are not given, those for which the integrals of the
        recall below the threshold and of what it lacks above it, weighed by ``misses``, make the
        least sum, as datasketch has them.
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
        """Return the group [N] int64 of each text: the smallest index of those it is one with.

        Works through one band after the other, so that only the signatures [N, permutations] uint32
        take much memory.

        Raises:
          UserError: the signatures are of another kind.
        """
        if signatures.dtype != np.uint32 or signatures.shape[1:] != (self.permutations,):
            raise UserError(
                f"signatures are [N, {self.permutations}] uint32, not {list(signatures.shape)} "
                f"{signatures.dtype}"
            )
        whole = _hashes(signatures)
        filled = np.flatnonzero(whole != _hashes(np.full((1, self.permutations), EMPTY)))
        first = group_equal(whole[filled])  # equal signatures in their thousands are then one
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
        """The equal entries at which two signatures are those of one text."""
        return math.ceil(self.threshold * self.permutations - 1e-9)

    def recall(self, jaccard: np.ndarray) -> np.ndarray:
        """Return the chance [N] that two texts of a Jaccard similarity [N] are found to be one,
        apart from all others.

        It is the S-curve of the bands; where pairs are checked, the chance that enough entries are
        equal as well: each of them is with a chance of the similarity.
        """
        if not self.check:
            return s_curve(jaccard, *self.layout)
        return bdtrc(self._enough - 1, self.permutations, jaccard) - [
            self._compute_miss_probability(s) for s in jaccard
        ]

    def _compute_miss_probability(self, similarity: float) -> float:
        """Return the chance that enough entries are equal, but no whole band: from the coefficients
        of x^k, the chances of k equal entries, of ((1 - s + s x)^rows - (s x)^rows)^bands (1 - s +
        s x)^rest.
        """
        bands, rows = self.layout
        one = np.array([1 - similarity, similarity])
        band = polypow(one, rows)
        band[-1] = 0
        counts = np.convolve(polypow(band, bands), polypow(one, self.permutations - bands * rows))
        return float(counts[self._enough :].sum())


def s_curve(similarity: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """Return the chance [...] that sets of a Jaccard similarity [...] share a band of their
    signatures.
    """
    return 1 - (1 - similarity**rows) ** bands


def _normalise_texts(texts: Series) -> pa.Array:
    """Texts as their words with a space between, by which they are compared; no word of a
    missing one.
    """
    return pa.array(
        [normalise_text(text) if text else "" for text in texts.to_pylist()], pa.large_string()
    )


def _hashes(entries: np.ndarray) -> np.ndarray:
    """Return a hash of 64 bits [N] of each row of entries [N, K]."""
    found = np.empty(len(entries), np.uint64)
    for begin in range(0, len(entries), ROWS):
        part = entries[begin : begin + ROWS]
        state = np.full(len(part), part.shape[1], np.uint64)
        for column in part.T:
            state = (state ^ column) * SPREAD
            state ^= state >> np.uint64(32)
        found[begin : begin + ROWS] = state
    return found
