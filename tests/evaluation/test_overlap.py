"""The longest common passage against a search through all of them, and in a corpus of millions."""

import time

import numpy as np
import pytest

from genjax.evaluation.text.overlap import find_longest_overlaps


def searched(text, corpus):
    """The same by looking for every passage in turn."""
    words, known = bytes(text.astype(np.uint8)), bytes(corpus.astype(np.uint8))
    return max(
        (
            j - i
            for i in range(len(words))
            for j in range(i + 1, len(words) + 1)
            if words[i:j] in known
        ),
        default=0,
    )


@pytest.mark.parametrize("chunk", [7, 64, 4096])
def test_overlaps_are_those_that_a_search_finds(chunk):
    draw = np.random.default_rng(0)
    for case in range(8):
        corpus = draw.integers(0, 2 + case, draw.integers(1, 300))
        texts = [draw.integers(0, 2 + case, draw.integers(0, 25)) for _ in range(6)] + [
            corpus[5:40],
            corpus[:1],
        ]
        found = find_longest_overlaps(texts, corpus.astype(np.uint16), chunk)
        assert found.size.tolist() == [searched(text, corpus) for text in texts]
        for text, size, begin in zip(texts, *found, strict=True):
            assert len(text[begin : begin + size]) == size
            assert searched(text[begin : begin + size], corpus) == size


def test_nothing_overlaps_what_is_not_there():
    assert find_longest_overlaps([np.array([5, 6])], np.arange(3)).size.tolist() == [0]
    assert find_longest_overlaps([np.array([], int)], np.arange(3)).size.tolist() == [0]
    assert find_longest_overlaps([np.array([1, 2])], np.array([], np.uint16)).size.tolist() == [0]
    assert find_longest_overlaps([], np.arange(3)).size.tolist() == []


def test_one_token_again_and_again_is_found_over_the_ends_of_chunks():
    zeros = np.zeros(50, int)
    assert find_longest_overlaps([zeros, zeros[:9]], zeros[:20], 8).size.tolist() == [20, 9]


def test_passages_of_a_large_corpus_are_found_in_seconds_wherever_they_stand():
    draw = np.random.default_rng(1)
    corpus = draw.integers(0, 50, 3_000_000).astype(np.uint16)
    places = np.linspace(0, len(corpus) - 90, 40).astype(int)
    sizes = 30 + np.arange(40) % 5
    texts = [
        np.concatenate([[60], corpus[i : i + n], [60], draw.integers(0, 50, 20)])
        for i, n in zip(places, sizes, strict=True)
    ]
    began = time.process_time()
    found = find_longest_overlaps(texts, corpus)
    assert time.process_time() - began < 15
    assert found.size.tolist() == sizes.tolist() and (found.begin == 1).all()
