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
