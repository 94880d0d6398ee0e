"""Hashed text: the same everywhere, nearer where more words are shared, and never the zeros
that mean no text.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from genjax.data.text.hashed import HashedText
from genjax.errors import UserError

TEXT = HashedText(64)


def test_it_is_the_sum_of_its_words_and_pairs_at_a_fixed_length():
    signs = {
        part: TEXT._hash_signs(part).astype(float)
        for part in ("a", "red", "circle", "a red", "red circle")
    }
    assert all(set(s) == {-1.0, 1.0} for s in signs.values())
    total = sum(signs.values())
    found = TEXT.embed("a red circle")
    assert found.dtype == np.float32 and found.shape == (64,)
    np.testing.assert_allclose(found, total * 8 / np.linalg.norm(total), rtol=1e-6)
    np.testing.assert_allclose(TEXT.embed("red"), signs["red"])


@pytest.mark.parametrize("width", [1, 3, 64])
def test_no_entry_is_ever_zero(width):
    rng = np.random.default_rng(0)
    words = ["a", "red", "blue", "circle", "left"]
    for count in range(1, 30):
        vector = HashedText(width).embed(" ".join(rng.choice(words, count)))
        assert np.isfinite(vector).all() and (vector != 0).all()
        np.testing.assert_allclose(np.square(vector).sum(), width, rtol=1e-5)


def test_case_and_punctuation_do_not_count_but_the_order_of_words_does():
    assert np.array_equal(TEXT.embed("A red, CIRCLE!"), TEXT.embed("a red circle"))
    assert not np.array_equal(TEXT.embed("red a circle"), TEXT.embed("a red circle"))
    assert np.array_equal(
        TEXT.embed("caf\u00e9"), TEXT.embed("cafe\u0301")
    )  # one letter, spelt in two ways


def test_the_more_words_are_shared_the_nearer():
    wide = HashedText(4096)
    base, near, far = (
        wide.embed(t)
        for t in ("a red circle here", "a red circle there", "some blue squares elsewhere")
    )
    cosines = [base @ other / 4096 for other in (near, far)]
    # Of seven words and pairs five are shared: 5 / 7.
    np.testing.assert_allclose(cosines, [5 / 7, 0], atol=0.07)


@pytest.mark.long
def test_other_processes_and_hash_seeds_give_the_same():
    code = (
        "from genjax.data.text.hashed import HashedText; print(HashedText(8).embed('a red "
        "circle').tobytes().hex())"
    )
    results = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert results == {HashedText(8).embed("a red circle").tobytes().hex().encode() + b"\n"}
    # pinned: other versions must give the same
    assert HashedText(8)._hash_signs("red").tolist() == [-1, 1, -1, -1, 1, -1, -1, -1]


def test_what_is_no_text_is_refused():
    for text in ("", "  ", "?!"):
        with pytest.raises(UserError, match="must have words"):
            TEXT.embed(text)
    with pytest.raises(UserError, match="at least 1"):
        HashedText(0)
