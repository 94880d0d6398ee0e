"""Diversity of texts in n-grams. A text is an array [T] of integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# The count of matches for orders without any, as in sacreBLEU's "floor" and method 1 of NLTK.
FLOOR = 0.1


class Grams(NamedTuple):
    """Every n-gram of some texts.

    Attributes:
      text: index of its text, [M].
      gram: id of the n-gram, [M], from 0.
    """

    text: np.ndarray
    gram: np.ndarray


def grams(texts: Sequence[np.ndarray], n: int) -> Grams:
    """Number the n-grams of texts, in order; texts shorter than ``n`` have none."""
    sizes = np.array([len(text) for text in texts], np.int64)
    tokens = np.concatenate([*texts, np.empty(0, np.int64)]).astype(np.int64)
    text = np.repeat(np.arange(len(texts)), sizes)
    # The number of tokens left in the text of each token, itself included.
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(tokens))
    _, single = np.unique(tokens, return_inverse=True)
    gram = single
    for longer in range(1, n):  # number the pairs of a gram and the token after it
        pair = gram[: len(single) - longer] * (single.max(initial=0) + 1) + single[longer:]
        gram = np.unique(pair, return_inverse=True)[1]
    begins = (left >= n)[: len(gram)]
    return Grams(text[: len(gram)][begins], gram[begins])


def distinct(texts: Sequence[np.ndarray], n: int) -> float:
    """Return the number of different n-grams over that of all n-grams in the texts (Li et al.,
    arXiv 1510.03055); NaN if there are none.

    It falls with the amount of text: compare only equal amounts.
    """
    gram = grams(texts, n).gram
    return len(np.unique(gram)) / len(gram) if len(gram) else float("nan")


def repetition(texts: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return the share of each text's n-grams that occur earlier in it [N], NaN for texts that are
    too short (Welleck et al., arXiv 1908.04319).
    """
    text, gram = grams(texts, n)
    total = np.bincount(text, minlength=len(texts))
    names = gram.max(initial=0) + 1
    different = np.bincount(np.unique(text * names + gram) // names, minlength=len(texts))
    return np.where(total > 0, 1 - different / np.maximum(total, 1), np.nan)


def self_bleu(texts: Sequence[np.ndarray], n: int = 4) -> np.ndarray:
    """Compute the BLEU of each text against all others [N], from 0 to 1 (Zhu et al., arXiv
    1802.01886): 1 if all are the same.

    It is sacreBLEU's sentence BLEU with orders up to ``n``, effective order and a floor of 0.1.

    Raises:
      ValueError: there are fewer than 2 texts.
    """
    if len(texts) < 2:
        raise ValueError("self-BLEU compares texts with each other: it needs at least 2")
    sizes = np.array([len(text) for text in texts], np.int64)
    logs, orders = np.zeros(len(texts)), np.zeros(len(texts))
    found = np.zeros(len(texts), bool)
    for order in range(1, n + 1):
        text, gram = grams(texts, order)
        matches = _matches(text, gram, len(texts)) if len(gram) else np.zeros(len(texts), np.int64)
        total = np.maximum(sizes - order + 1, 0)
        found |= matches > 0
        share = np.where(matches > 0, matches, FLOOR) / np.maximum(total, 1)
        logs += np.where(total > 0, np.log(share), 0)
        orders += total > 0
    brevity = np.minimum(0, 1 - _closest(sizes) / np.maximum(sizes, 1))
    return np.where(found, np.exp(brevity + logs / np.maximum(orders, 1)), 0)


def _matches(text: np.ndarray, gram: np.ndarray, count: int) -> np.ndarray:
    """Count the n-grams of each text that occur in another one [count], each as often as in the
    text with the most of it.
    """
    pair, times = np.unique(gram * count + text, return_counts=True)
    order = np.lexsort((-times, pair // count))
    gram, text, times = pair[order] // count, pair[order] % count, times[order]
    # For each gram, the text with the most of it.
    first = np.flatnonzero(np.r_[True, gram[1:] != gram[:-1]])
    group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(gram)]))
    most = times[first][group]
    follows = np.minimum(first + 1, len(gram) - 1)
    second = np.where(gram[follows] == gram[first], times[follows], 0) * (follows > first)
    most[first] = second
    return np.bincount(text, np.minimum(times, most), count).astype(np.int64)


def _closest(sizes: np.ndarray) -> np.ndarray:
    """Return the closest size of another text to each size [N], the smaller one of two."""
    ordered = np.sort(sizes)
    place = np.searchsorted(ordered, sizes)  # of the same size, its own or another text's
    lower = ordered[np.maximum(place - 1, 0)]
    higher = ordered[np.minimum(place + 1, len(ordered) - 1)]
    below = np.where(place > 0, sizes - lower, np.iinfo(np.int64).max)
    above = np.where(place < len(ordered) - 1, higher - sizes, np.iinfo(np.int64).max)
    return np.where(below <= above, lower, higher)
