"""The longest passage of a text that stands word for word in a corpus, by hashes of all its
windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CHUNK = 2**22  # tokens of the corpus in memory at once, with some 20 bytes for each
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers have inverses modulo 2^64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))
SPREAD = np.uint64(0xD6E8FEB86659FD93)
BITS = 22  # of the table that most windows of the corpus are turned away by


class Overlaps(NamedTuple):
    """The longest passage of each text that is in the corpus, too.

    Attributes:
      size: tokens of it [N] int64.
      begin: where it starts in its text [N] int64.
    """

    size: np.ndarray
    begin: np.ndarray


def longest_overlaps(
    texts: Sequence[np.ndarray], corpus: np.ndarray, chunk: int = CHUNK
) -> Overlaps:
    """For texts [T] of tokens and a corpus [M] of tokens, which may lie on disk.

    A window's hash is a polynomial of its tokens modulo 2^64 (Karp and Rabin, 1987), so that a
    window of any length costs two operations. A passage's parts are in the corpus as well, so its
    greatest length is found by bisection, for all texts at once. Passages are distinguished by 64
    bits: of 1e7 windows against 1e5 one in 2e7 tries is wrong.
    """
    sizes = np.array([len(text) for text in texts], np.int64)
    size, begin = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    longest = int(sizes.max(initial=0))
    if not longest:
        return Overlaps(size, begin)
    powers = _powers(min(chunk, len(corpus)) + longest)
    asked = [_sums(text, powers) for text in texts]
    for first in range(0, len(corpus), chunk):
        known = _sums(corpus[first : first + chunk + longest], powers)
        low, high = size.copy(), np.minimum(sizes, len(known.total) - 1)
        middle = np.minimum(low + 1, high)  # most chunks hold nothing longer than is known already
        while (open_ := low < high).any():
            for length in np.unique(middle[open_]):
                rows = np.flatnonzero(open_ & (middle == length))
                hit, at = _find_windows([asked[row] for row in rows], known, int(length))
                high[rows[~hit]] = length - 1
                low[rows[hit]] = length
                size[rows[hit]], begin[rows[hit]] = length, at[hit]
            middle = _roundest(low, high)
    return Overlaps(size, begin)


def _roundest(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Of the numbers above ``low`` and up to ``high`` the one [N] with the most zeros at its end:
    texts of any lengths then ask for the same windows.
    """
    differ = np.frexp((low ^ high).astype(np.float64))[1] - 1  # the highest bit that does
    differ = np.maximum(differ, 0)
    return (high >> differ) << differ


class _Sums(NamedTuple):
    """Of T tokens: ``total`` [T + 1], sums of their first terms, and ``back`` [T + 1], which
    undoes the powers.
    """

    total: np.ndarray
    back: np.ndarray

    def hash_windows(self, length: int) -> np.ndarray:
        """Return the hashes [T + 1 - length] uint64."""
        return (self.total[length:] - self.total[:-length]) * self.back[:-length]


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first powers of the base and of its inverse, [count + 1] each."""
    both = (np.full(count + 1, base, np.uint64) for base in (BASE, INVERSE))
    first, second = (np.multiply.accumulate(x) for x in both)
    return first, second


def _sums(tokens: np.ndarray, powers: tuple[np.ndarray, np.ndarray]) -> _Sums:
    mixed = (
        tokens.astype(np.uint64) + np.uint64(1)
    ) * SPREAD  # near tokens far apart, and none is 0
    mixed ^= mixed >> np.uint64(32)
    mixed *= SPREAD
    forth, back = (power[: len(mixed) + 1] for power in powers)
    return _Sums(np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed * forth[:-1])]), back)


def _find_windows(
    asked: Sequence[_Sums], known: _Sums, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which texts [N] bool share a window of that length with the corpus, and where in the
    text it starts [N].
    """
    windows = [one.hash_windows(length) for one in asked]
    hashes = np.concatenate(windows)
    table = np.zeros(2**BITS, bool)
    table[_slot(hashes)] = True
    there = known.hash_windows(length)
    there = np.unique(there[table[_slot(there)]])
    hit = np.isin(hashes, there)
    starts = np.cumsum([0, *(len(one) for one in windows)])
    of_text = np.split(hit, starts[1:-1])
    return np.array([x.any() for x in of_text]), np.array([x.argmax() for x in of_text])


def _slot(hashes: np.ndarray) -> np.ndarray:
    """Return a place in the table [...], of the highest bits: the lowest ones of such a polynomial
    tell little.
    """
    return ((hashes * SPREAD) >> np.uint64(64 - BITS)).astype(np.int64)
