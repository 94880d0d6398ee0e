"""Groups of duplicate records: connected components of pairs, and their agreement with known ones.

A group [N] int64 holds for each record the smallest index among its duplicates, so that equal
clusters are equal arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

PAIRS = 2**14  # pairs processed together
CERTAIN = 3.0  # largest log-odds of a pair that count: 95 %

Same = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # for indices [M] and [M] of pairs: which are duplicates [M] bool


def components(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """Return the group [count] of every record, given pairs of indices ``left`` and ``right``
    [M].
    """
    return merge_groups(np.arange(count), left, right)


def merge_groups(group: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the group [N] after also joining pairs of indices ``left`` and ``right`` [M]."""
    if not len(left):
        return group
    nodes, ends = np.unique(np.concatenate([group[left], group[right]]), return_inverse=True)
    begin, end = np.split(ends, 2)
    graph = scipy.sparse.coo_array(
        (np.ones(len(begin), bool), (begin, end)), (len(nodes), len(nodes))
    )
    _, labels = scipy.sparse.csgraph.connected_components(graph, directed=False)
    # Nodes are in increasing order, so the first of a component is its smallest.
    _, first = np.unique(labels, return_index=True)
    to = np.arange(len(group))
    to[nodes] = nodes[first][labels]
    return to[group]


def choose_links(pairs: np.ndarray, probability: np.ndarray, threshold: float) -> np.ndarray:
    """Which pairs [2, M] of records are links [M] bool: those that reach the threshold, less those
    that would join two groups whose other pairs speak more against it than they for it.

    The likeliest links join first. A pair counts with the logarithm of its odds, none for more than
    ``CERTAIN``; two records that were not compared say nothing. So a record that was changed twice
    stays with its first form by way of the one between, and two households do not become one by
    way of a single row.

    Args:
      pairs: with the smaller index first, each once.
    """
    links = probability >= threshold
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(probability) - np.log1p(-probability), -CERTAIN, CERTAIN)
    count = int(pairs.max(initial=-1)) + 1
    group = components(pairs[0, links], pairs[1, links], count)
    inside = group[pairs[0]] == group[pairs[1]]
    doubted = np.isin(group[pairs[0]], group[pairs[0][inside & ~links]]) & inside
    of = {int(record): {int(record)} for record in np.unique(pairs[:, doubted])}
    evidence: dict[int, dict[int, float]] = {record: {} for record in of}
    rows = np.flatnonzero(doubted)
    for (a, b), weight in zip(pairs[:, rows].T.tolist(), odds[rows].tolist(), strict=True):
        evidence[a][b] = evidence[b][a] = weight
    joined = {record: record for record in of}
    likeliest = np.lexsort((*pairs[::-1, rows], -probability[rows]))
    for row in rows[likeliest]:
        if not links[row]:
            break
        a, b = (joined[int(record)] for record in pairs[:, row])
        if a != b and evidence[a][b] >= 0:
            _join_groups(a, b, of, evidence, joined)
    final = np.array([joined.get(record, -1) for record in range(count)], np.int64)
    kept = ~doubted | (final[pairs[0]] == final[pairs[1]])
    return links & kept


def _join_groups(
    a: int,
    b: int,
    of: dict[int, set[int]],
    evidence: dict[int, dict[int, float]],
    joined: dict[int, int],
) -> None:
    """Join group ``b`` to ``a``: their records, and the evidence about either and each other."""
    for record in of[b]:
        joined[record] = a
    of[a] |= of.pop(b)
    for other, weight in evidence.pop(b).items():
        evidence[other].pop(b)
        if other != a:
            evidence[a][other] = evidence[other][a] = evidence[a].get(other, 0.0) + weight


def group_equal(keys: np.ndarray) -> np.ndarray:
    """Return the group [N] of records with equal keys [N]."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def buckets(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (indices [K], ends [K]) of the records that share their key [N] with another one.

    ``indices`` are sorted by bucket and then by index; ``ends`` are the positions in ``indices``
    where the bucket of each record ends.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = (
        np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        if len(keys)
        else np.zeros(0, int)
    )
    sizes = np.diff(np.append(begins, len(keys)))
    shared = np.repeat(sizes > 1, sizes)
    kept = sizes[sizes > 1]
    return order[shared], np.repeat(np.cumsum(kept), kept)


def group_similar(
    keys: Iterable[np.ndarray], same: Same | None, group: np.ndarray, reach: int | None = None
) -> np.ndarray:
    """Return the group [N] after joining records that share a key and are duplicates.

    Without ``same`` a shared key is enough, and a bucket of m records takes m - 1 pairs. With it,
    pairs that are already joined are skipped: the result is the same as for all pairs, but many
    near-duplicates do not take quadratic time. Each key is discarded before the next one.

    Args:
      keys: keys of all records [N], one array for each way in which two records can meet.
      same: function from indices ``left`` [M] and ``right`` [M] of pairs to whether they are
        duplicates, [M] bool.
      group: initial group [N].
      reach: largest distance in a bucket of two records that are compared, so that many different
        records do not take quadratic time; None for no limit.
    """
    for key in keys:
        group = _join_bucket(group, key, same, len(key) if reach is None else reach)
    return group


def _join_bucket(group: np.ndarray, key: np.ndarray, same: Same | None, reach: int) -> np.ndarray:
    indices, ends = buckets(key)
    places = np.arange(len(indices))
    for lag in range(1, reach + 1):
        places = places[places + lag < ends[places]]
        if not len(places):
            break
        left, right = indices[places], indices[places + lag]
        apart = group[left] != group[right]
        left, right = left[apart], right[apart]
        if same is None:
            return merge_groups(group, left, right)
        chosen = [
            same(left[i : i + PAIRS], right[i : i + PAIRS]) for i in range(0, len(left), PAIRS)
        ]
        passed = np.concatenate([np.zeros(0, bool), *chosen])
        group = merge_groups(group, left[passed], right[passed])
        places = _select_unfinished(places, indices, ends, group)
    return group


def _select_unfinished(
    places: np.ndarray, indices: np.ndarray, ends: np.ndarray, group: np.ndarray
) -> np.ndarray:
    """Return the positions whose bucket is not a single group yet."""
    of = group[indices]
    begins = np.flatnonzero(np.concatenate([[True], ends[1:] != ends[:-1]]))
    one = np.minimum.reduceat(of, begins) == np.maximum.reduceat(of, begins)
    return places[~np.repeat(one, np.diff(np.append(begins, len(ends))))[places]]


class Agreement(NamedTuple):
    """Agreement of a clustering with the truth, over pairs of records.

    Attributes:
      precision: fraction of the pairs joined here that are truly duplicates; 1 without pairs.
      recall: fraction of the true duplicate pairs that are joined here; 1 without pairs.
      f1: harmonic mean of both.
    """

    precision: float
    recall: float
    f1: float


def measure_agreement(found: Any, known: Any) -> Agreement:
    """Return the exact agreement of clusters with known ones, from their contingency table.

    Args:
      found: cluster labels of the records [N].
      known: true labels [N].
    """
    found, known = (
        np.unique(np.asarray(labels), return_inverse=True)[1] for labels in (found, known)
    )
    both = _pairs(found.astype(np.int64) * (int(known.max(initial=0)) + 1) + known)
    of_found, of_known = _pairs(found), _pairs(known)
    return Agreement(
        both / of_found if of_found else 1.0,
        both / of_known if of_known else 1.0,
        2 * both / (of_found + of_known) if of_found + of_known else 1.0,
    )


def _pairs(labels: np.ndarray) -> int:
    # Python's integers do not overflow.
    sizes = np.unique(labels, return_counts=True)[1].astype(object)
    return int((sizes * (sizes - 1) // 2).sum())
