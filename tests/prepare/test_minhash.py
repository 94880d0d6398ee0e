"""MinHash beside the truth and beside its theory: what a signature tells, and which
near-duplicates are found.
"""

import itertools

import daft
import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom, binomtest

from genjax.errors import UserError
from genjax.prepare.matching.components import components
from genjax.prepare.matching.minhash import EMPTY, MinHash, s_curve

WORDS, NGRAM, PAIRS = 120, 5, 400


def signatures(minhash, texts):
    frame = daft.from_pydict({"text": pa.array(texts, pa.large_string())})
    return minhash.stack_signatures(
        frame.select(minhash.sign(daft.col("text"))).to_arrow()["text"].chunks
    )


def edited(edits, count=PAIRS, seed=0):
    """Texts, the same with that many words replaced, and the Jaccard similarity of their 5-grams.

    No word comes twice, and replaced ones are so far apart that each is in five n-grams of its own.
    """
    rng = np.random.default_rng([seed, edits])
    words = rng.integers(0, 2**60, (count, WORDS)).astype(str)
    other = words.copy()
    other[:, NGRAM - 1 :: NGRAM][:, :edits] = rng.integers(0, 2**60, (count, edits)).astype(str)
    grams = WORDS - NGRAM + 1
    jaccard = (grams - NGRAM * edits) / (grams + NGRAM * edits)
    return [" ".join(row) for row in words], [" ".join(row) for row in other], jaccard


def grams(text):
    words = text.split()
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


@pytest.mark.parametrize("edits", [0, 1, 3, 8, 20])
def test_the_share_of_equal_entries_estimates_the_jaccard_similarity(edits):
    left, right, jaccard = edited(edits)
    for a, b in itertools.islice(zip(left, right, strict=True), 3):
        assert len(grams(a) & grams(b)) / len(grams(a) | grams(b)) == jaccard
    minhash = MinHash()
    estimates = (signatures(minhash, left) == signatures(minhash, right)).mean(1)
    error = np.sqrt(jaccard * (1 - jaccard) / minhash.permutations)
    np.testing.assert_allclose(estimates.mean(), jaccard, atol=4 * error / np.sqrt(PAIRS))
    np.testing.assert_allclose(estimates.std(), error, rtol=0.2)


@pytest.mark.parametrize(
    "minhash", [MinHash(), MinHash(check=False), MinHash(64, bands=16, threshold=0.6)]
)
def test_the_recall_of_planted_edits_is_that_of_the_theory(minhash):
    for edits in (1, 2, 3, 4, 6, 10, 15):
        left, right, jaccard = edited(edits)
        group = minhash.cluster(signatures(minhash, left + right))
        found = int((group[PAIRS:] == np.arange(PAIRS)).sum())
        assert (group[:PAIRS] == np.arange(PAIRS)).all()  # and nothing else is one
        (expected,) = minhash.recall(np.array([jaccard]))
        assert binomtest(found, PAIRS, min(expected, 1.0)).pvalue > 1e-4, (
            edits,
            jaccard,
            found / PAIRS,
            expected,
        )


def test_recall_is_the_chance_of_a_shared_band_and_of_enough_equal_entries():
    similarity = np.linspace(0, 1, 11)
    np.testing.assert_allclose(s_curve(similarity, 5, 3), 1 - (1 - similarity**3) ** 5)
    unchecked = MinHash(32, bands=10, check=False)
    np.testing.assert_allclose(unchecked.recall(similarity), s_curve(similarity, 10, 3))
    checked = MinHash(32, threshold=0.7, bands=10)
    draws = np.random.default_rng(0).random((20_000, 32)) < 0.7
    hit = draws[:, :30].reshape(-1, 10, 3).all(2).any(1) & (draws.mean(1) >= 0.7)
    np.testing.assert_allclose(
        checked.recall(np.array([0.7]))[0], hit.mean(), atol=4 * 0.5 / np.sqrt(20_000)
    )
    one_row = MinHash(
        32, threshold=0.7, bands=32
    )  # where a band is a single entry, enough entries are all it takes
    np.testing.assert_allclose(one_row.recall(similarity), binom.sf(22, 32, similarity), atol=1e-12)


@pytest.mark.parametrize("threshold, misses", [(0.8, 0.5), (0.5, 0.5), (0.8, 0.9), (0.9, 0.2)])
def test_bands_make_the_fewest_mistakes(threshold, misses):
    bands, rows = MinHash(48, threshold=threshold, misses=misses).layout
    grid = (np.arange(2000) + 0.5) / 2000

    def mistakes(b, r):
        curve = s_curve(grid, b, r)
        return (1 - misses) * curve[grid < threshold].sum() + misses * (
            1 - curve[grid > threshold]
        ).sum()

    least = min(mistakes(b, r) for b in range(1, 49) for r in range(1, 48 // b + 1))
    np.testing.assert_allclose(mistakes(bands, rows), least, rtol=1e-3)


def test_bands_are_those_of_datasketch():
    lsh = pytest.importorskip(
        "datasketch.lsh", reason="the peer is datasketch: pip install '.[reference]'"
    )
    for threshold, misses in ((0.8, 0.5), (0.5, 0.5), (0.9, 0.3), (0.7, 0.9)):
        found = MinHash(128, threshold=threshold, misses=misses).layout
        assert found == lsh._optimal_param(threshold, 128, 1 - misses, misses)


def test_clusters_are_the_components_of_all_pairs_that_share_a_band_and_agree():
    rng = np.random.default_rng(0)
    minhash = MinHash(12, threshold=0.6, bands=4)
    table = rng.integers(0, 3, (150, 12), np.uint32)
    left, right = np.triu_indices(150, 1)
    equal = table[left] == table[right]
    one = equal.reshape(-1, 4, 3).all(2).any(1)
    np.testing.assert_array_equal(
        MinHash(12, threshold=0.6, bands=4, check=False).cluster(table),
        components(left[one], right[one], 150),
    )
    one &= equal.mean(1) >= 0.6
    expected = components(left[one], right[one], 150)
    assert 5 < len(np.unique(expected)) < 145
    np.testing.assert_array_equal(minhash.cluster(table), expected)


def test_the_order_of_the_texts_does_not_matter():
    left, right, _ = edited(2, 100)
    third = [text + " and so on" for text in left[:50]]
    texts = np.array([*left, *right, *third, *left[:10]])
    order = np.random.default_rng(1).permutation(len(texts))
    minhash = MinHash(threshold=0.7)
    plain, shuffled = (
        minhash.cluster(signatures(minhash, list(some))) for some in (texts, texts[order])
    )
    clusters = {frozenset(np.flatnonzero(plain == one)) for one in plain}
    assert (
        clusters == {frozenset(order[shuffled == one]) for one in shuffled} and len(clusters) < 110
    )
    assert all(plain[min(cluster)] == min(cluster) for cluster in clusters)


def test_short_empty_and_missing_texts():
    texts = [
        "one two",
        "One,\tTWO!",
        "one two three",
        "",
        None,
        " \n",
        "...",
        "caf\u00e9 au lait",
        "cafe\u0301 au lait",
    ]
    minhash = MinHash(16)
    table = signatures(minhash, texts)
    assert (table == EMPTY).all(1).tolist() == [False] * 3 + [True] * 4 + [False] * 2
    assert minhash.cluster(table).tolist() == [0, 0, 2, 3, 4, 5, 6, 7, 7]


def test_one_text_and_none():
    minhash = MinHash(16)
    assert minhash.stack_signatures([]).shape == (0, 16)
    assert minhash.cluster(minhash.stack_signatures([])).tolist() == []
    assert minhash.cluster(signatures(minhash, ["a b c d e f"])).tolist() == [0]


def test_signatures_depend_on_the_seed_alone():
    texts = [" ".join(map(str, range(i, i + 30))) for i in range(20)]
    first, again, other = (signatures(MinHash(16, seed=seed), texts) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.99 and first.dtype == np.uint32 and first.shape == (20, 16)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"permutations": 0}, "permutations must be at least 1"),
        ({"ngram": 0}, "ngram must be at least 1"),
        ({"threshold": 0.0}, "threshold must be above 0 and at most 1"),
        ({"threshold": 1.1}, "threshold must be above 0 and at most 1"),
        ({"bands": 129}, "bands must be from 1 to the 128"),
        ({"misses": -0.1}, "misses must be from 0 to 1"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        MinHash(**fields)


def test_signatures_of_another_kind_are_refused():
    with pytest.raises(UserError, match=r"\[N, 16\] uint32, got \[3, 8\] uint32"):
        MinHash(16).cluster(np.zeros((3, 8), np.uint32))
    with pytest.raises(
        UserError, match=r"signatures must be \[N, 16\] uint32, got \[3, 16\] int64"
    ):
        MinHash(16).cluster(np.zeros((3, 16), np.int64))
