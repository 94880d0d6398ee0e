"""Counts of n-grams against sacreBLEU and against counting by hand."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from genjax.evaluation.text.ngrams import distinct, grams, repetition, self_bleu

AB = [np.array(text) for text in ([7, 8, 7, 8, 7], [8, 7], [9])]


def windows(text, n):
    return [tuple(text[i : i + n].tolist()) for i in range(len(text) - n + 1)]


def random_texts(draw, letters, longest=14):
    return [
        draw.integers(0, letters, draw.integers(1, longest)) for _ in range(draw.integers(2, 9))
    ]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_grams_are_equal_where_the_windows_are(n):
    texts = random_texts(np.random.default_rng(n), 3)
    text, gram = grams(texts, n)
    expected = [(number, window) for number, one in enumerate(texts) for window in windows(one, n)]
    assert text.tolist() == [number for number, _ in expected]
    names = {window: name for (_, window), name in zip(expected, gram.tolist(), strict=True)}
    assert [names[window] for _, window in expected] == gram.tolist() and len(
        set(names.values())
    ) == len(names)


def test_distinct_and_repetition_are_those_counted_by_hand():
    assert distinct(AB, 1) == 3 / 8 and distinct(AB, 2) == 2 / 5 and distinct(AB, 5) == 1
    assert np.isnan(distinct(AB, 6))
    np.testing.assert_allclose(repetition(AB, 1), [3 / 5, 0, 0])
    np.testing.assert_allclose(repetition(AB, 2), [1 / 2, 0, np.nan])
    assert np.isnan(repetition(AB, 9)).all()


@pytest.mark.parametrize("letters", [2, 4, 30])
def test_self_bleu_is_sacrebleus_of_each_sentence_against_all_others(letters):
    metric = BLEU(tokenize="none", effective_order=True, smooth_method="floor", smooth_value=0.1)
    for case in range(8):
        texts = random_texts(np.random.default_rng(100 * letters + case), letters)
        written = [" ".join(map(str, text)) for text in texts]
        expected = [
            metric.sentence_score(one, [other for j, other in enumerate(written) if j != i]).score
            / 100
            for i, one in enumerate(written)
        ]
        np.testing.assert_allclose(self_bleu(texts), expected, rtol=1e-9)


def test_self_bleu_is_1_for_one_text_again_and_again_and_0_without_a_common_token():
    np.testing.assert_allclose(self_bleu([np.arange(9)] * 3), 1)
    assert self_bleu([np.arange(9), np.arange(9) + 9]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="at least 2"):
        self_bleu([np.arange(9)])
