"""Components beside brute force, pairs that are tried in buckets, and agreement counted pair
by pair.
"""

import itertools

import numpy as np
import pytest

from genjax.prepare.matching.components import (
    buckets,
    components,
    group_equal,
    group_similar,
    measure_agreement,
    merge_groups,
)


def brute_force(pairs, count):
    """The smallest index that can be reached from each."""
    group = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            group[a] = group[b] = min(group[a], group[b])
    return group


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, 40, (2, 25))
    expected = brute_force(list(zip(left, right, strict=True)), 40)
    np.testing.assert_array_equal(components(left, right, 40), expected)
    halves = merge_groups(components(left[:12], right[:12], 40), left[12:], right[12:])
    np.testing.assert_array_equal(halves, expected)


def test_no_pairs_and_no_records_are_fine():
    none = np.zeros(0, np.int64)
    assert components(none, none, 3).tolist() == [0, 1, 2]
    assert components(none, none, 0).tolist() == group_equal(none).tolist() == []
    assert group_similar([none], None, none).tolist() == []
    assert [part.tolist() for part in buckets(none)] == [[], []]


def test_buckets_hold_those_that_share_a_key_alone():
    indices, ends = buckets(np.array([7, 3, 7, 5, 3, 7]))
    assert indices.tolist() == [1, 4, 0, 2, 5] and ends.tolist() == [2, 2, 5, 5, 5]
    assert group_equal(np.array([7, 3, 7, 5, 3, 7])).tolist() == [0, 1, 0, 3, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_near_joins_all_pairs_of_a_bucket_that_are_the_same_and_no_others(seed):
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 6, (3, 50))
    place = rng.uniform(0, 30, 50)

    def same(left, right):
        return np.abs(place[left] - place[right]) < 1

    pairs = [
        (a, b) for a, b in itertools.combinations(range(50), 2) if (keys[:, a] == keys[:, b]).any()
    ]
    passed = [(a, b) for a, b in pairs if abs(place[a] - place[b]) < 1]
    np.testing.assert_array_equal(group_similar(keys, same, np.arange(50)), brute_force(passed, 50))
    np.testing.assert_array_equal(group_similar(keys, None, np.arange(50)), brute_force(pairs, 50))


def test_a_large_bucket_takes_a_pair_a_record_where_all_are_one():
    tried = []

    def same(left, right):
        tried.append(len(left))
        return np.ones(len(left), bool)

    keys = np.arange(3000) % 3
    np.testing.assert_array_equal(group_similar([keys, keys], same, np.arange(3000)), keys)
    assert sum(tried) == 3000 - 3


def test_a_bucket_of_unlike_records_is_given_up_at_the_reach():
    def found(reach):
        return group_similar(
            [np.zeros(40, int)], lambda left, right: right - left == 8, np.arange(40), reach
        )

    np.testing.assert_array_equal(found(7), np.arange(40))
    for reach in (8, None):
        np.testing.assert_array_equal(found(reach), np.arange(40) % 8)


def test_agreement_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    found, known = rng.integers(0, 5, (2, 40))
    pairs = list(itertools.combinations(range(40), 2))
    here, there = ([labels[a] == labels[b] for a, b in pairs] for labels in (found, known))
    both = sum(a and b for a, b in zip(here, there, strict=True))
    precision, recall = both / sum(here), both / sum(there)
    expected = (precision, recall, 2 * precision * recall / (precision + recall))
    np.testing.assert_allclose(measure_agreement(found, known), expected)
    np.testing.assert_allclose(measure_agreement([f"r{i}" for i in found], known), expected)


def test_agreement_without_pairs():
    assert measure_agreement([0, 1, 2], [5, 6, 7]) == (1, 1, 1) and measure_agreement([], []) == (
        1,
        1,
        1,
    )
    assert measure_agreement([0, 1, 2], [5, 5, 7]) == (1, 0, 0) and measure_agreement(
        [0, 0, 2], [5, 6, 7]
    ) == (0, 1, 0)
