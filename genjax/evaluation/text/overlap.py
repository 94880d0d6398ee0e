"""Finds the longest passage of a text that occurs verbatim in a corpus, by hashes of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CHUNK = 2**22  # tokens of the corpus in memory at once, at some 20 bytes each
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers have inverses modulo 2^64
INVERSE = np.uint64(pow(int(BASE), -1, 2**64))
SPREAD = np.uint64(0xD6E8FEB86659FD93)
BITS = 22  # of the hash table that rejects most windows of the corpus


class Overlaps(NamedTuple):
    """The longest passage of each text that is also in the corpus.

    Attributes:
      size: its length in tokens, int64 [N].
      begin: its start in the text, int64 [N].
    """

    size: np.ndarray
    begin: np.ndarray


def find_longest_overlaps(
    texts: Sequence[np.ndarray], corpus: np.ndarray, chunk: int = CHUNK
) -> Overlaps:
    """Find the longest overlaps of texts [T] with a corpus [M] of tokens, which may be on disk.

    A window's hash is a polynomial of its tokens modulo 2^64 (Karp and Rabin, 1987), so a window of
    any length costs two operations. All parts of a passage in the corpus are in the corpus, so the
    longest length is found by bisection, for all texts at once. With 64-bit hashes, comparing 1e7
    windows with 1e5 goes wrong once in 2e7 times.
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
        middle = np.minimum(low + 1, high)  # most chunks have nothing longer than found so far
        while (open_ := low < high).any():
            for length in np.unique(middle[open_]):
                rows = np.flatnonzero(open_ & (middle == length))
                hit, at = _find_windows([asked[row] for row in rows], known, int(length))
                high[rows[~hit]] = length - 1
                low[rows[hit]] = length
                size[rows[hit]], begin[rows[hit]] = length, at[hit]
            middle = _pick_roundest(low, high)
    return Overlaps(size, begin)


def _pick_roundest(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Pick the number [N] in (``low``, ``high``] with the most trailing zero bits, so that texts of
    different lengths try the same windows.
    """
    differ = np.frexp((low ^ high).astype(np.float64))[1] - 1  # the highest bit that differs
    differ = np.maximum(differ, 0)
    return (high >> differ) << differ


class _Sums(NamedTuple):
    """Prefix sums of T tokens: ``total`` [T + 1], and ``back`` [T + 1], inverse powers of the
    base.
    """

    total: np.ndarray
    back: np.ndarray

    def hash_windows(self, length: int) -> np.ndarray:
        """Return the hashes of all windows, uint64 [T + 1 - length]."""
        return (self.total[length:] - self.total[:-length]) * self.back[:-length]


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the powers of the base and of its inverse, [count + 1] each."""
    both = (np.full(count + 1, base, np.uint64) for base in (BASE, INVERSE))
    first, second = (np.multiply.accumulate(x) for x in both)
    return first, second


def _sums(tokens: np.ndarray, powers: tuple[np.ndarray, np.ndarray]) -> _Sums:
    # Spreads similar tokens apart; none becomes 0.
    mixed = (tokens.astype(np.uint64) + np.uint64(1)) * SPREAD
    mixed ^= mixed >> np.uint64(32)
    mixed *= SPREAD
    forth, back = (power[: len(mixed) + 1] for power in powers)
    return _Sums(np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed * forth[:-1])]), back)


def _find_windows(
    asked: Sequence[_Sums], known: _Sums, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which texts share a window of that length with the corpus, bool [N], and where it
    starts in the text [N].
    """
    windows = [one.hash_windows(length) for one in asked]
    hashes = np.concatenate(windows)
    table = np.zeros(2**BITS, bool)
    table[_map_to_slots(hashes)] = True
    there = known.hash_windows(length)
    there = np.unique(there[table[_map_to_slots(there)]])
    hit = np.isin(hashes, there)
    starts = np.cumsum([0, *(len(one) for one in windows)])
    of_text = np.split(hit, starts[1:-1])
    return np.array([x.any() for x in of_text]), np.array([x.argmax() for x in of_text])


def _map_to_slots(hashes: np.ndarray) -> np.ndarray:
    """Map hashes to slots of the table by their highest bits; the lowest bits of such a polynomial
    are not random enough.
    """
    return ((hashes * SPREAD) >> np.uint64(64 - BITS)).astype(np.int64)
