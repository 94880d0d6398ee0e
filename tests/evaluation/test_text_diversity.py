"""Diversity of texts: a table that draws what the data are is like them, one that turns in a
circle is flagged.
"""

import numpy as np
import pytest

from genjax.data.sources import Digits, TextFiles
from genjax.data.text.codecs import Characters
from genjax.data.text.layouts import Documents, Packed
from genjax.data.text.splits import ByFiles
from genjax.errors import UserError
from genjax.evaluation.text.diversity import TextDiversity, measure_diversity
from genjax.evaluation.text.drawn import data_texts, draw_texts, match_lengths, split_texts
from genjax.families.autoregressive.autoregressive import Autoregressive
from genjax.nets.bigram import Bigram
from tests import toy
from tests.evaluation.bigrams import subject

LETTERS = "abcdefgh "
V = len(LETTERS) + 1  # and the end, 0; the space is 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    for name in ("train.txt", "test.txt"):
        lines = [
            "".join(draw.choice(list(LETTERS), draw.integers(20, 60))).strip() or "a"
            for _ in range(60)
        ]
        (folder / name).write_text("\n".join(lines))
    source = TextFiles(
        str(folder),
        "*.txt",
        "lines",
        codec=Characters(delimiter=True),
        split=ByFiles("test*"),
        cache=str(folder / "c"),
    )

    def opened(layout):
        return TextFiles(**{**vars(source), "layout": layout}).open()

    return opened


def uniform():
    table = np.full((V, V), 1 / (V - 1))
    table[:, 0] = 1e-30
    return table / table.sum(1, keepdims=True)


def circle():
    """After each letter the next one."""
    table = np.full((V, V), 1e-30)
    table[np.arange(V), np.r_[2, np.arange(2, V), 2]] = 1
    return table


def test_a_table_of_the_datas_law_is_as_varied_as_they_are(data):
    found = TextDiversity(60, 3, unit="tokens")(subject(data(Documents(64)), uniform()))
    for name in ("distinct_1", "distinct_2", "distinct_3", "self_bleu"):
        np.testing.assert_allclose(
            found.numbers[name], found.numbers[f"{name}_held_out"], rtol=0.06, err_msg=name
        )
    assert found.numbers["repetition"] < 0.1 and not found.remarks
    assert found.pictures["text_diversity"].ndim == 3 and "n-grams of tokens" in found.protocol


def test_a_table_that_turns_in_a_circle_is_flagged_twice(data):
    found = TextDiversity(40, 3, unit="tokens")(subject(data(Documents(64)), circle()))
    # 8 letters in turn: 8 different 3-grams, and all but those of a text of 40 letters stand
    # earlier in it.
    assert found.numbers["self_bleu"] > 0.98 and found.numbers["repetition"] > 0.6
    assert found.numbers["distinct_3"] < 0.02 < found.numbers["distinct_3_held_out"]
    assert (
        "keeps drawing similar texts" in found.remarks[0] and "repeats itself" in found.remarks[1]
    )


def test_words_are_those_of_the_decoded_text(data):
    found = TextDiversity(40, 1)(subject(data(Documents(64)), circle()))
    assert found.numbers["distinct_1"] > 0 and "n-grams of words" in found.protocol
    codec = data(Documents(64)).codec
    texts = [codec.encode(text) for text in ("ab ab a", "a cd", " ")]
    assert [text.tolist() for text in split_texts(codec, texts)] == [[0, 0, 1], [1, 2], []]


def test_samples_lose_their_prompt_and_end_and_rows_their_padding(data):
    opened = data(Packed(64))
    table = uniform()
    table[:, 0] = 0.1
    model = subject(opened, table / table.sum(1, keepdims=True))
    drawn, rows = draw_texts(model, 50), data_texts(model, 20)
    assert (
        all(0 not in text for text in drawn + rows)
        and min(map(len, drawn)) < 10 < max(map(len, drawn)) <= 40
    )
    documents = {tuple(opened.splits["test"].corpus.document(i)[:-1].tolist()) for i in range(60)}
    assert all(tuple(row.tolist()) in documents for row in rows)
    one, other = match_lengths(drawn, rows)
    assert (
        [len(a) for a in one] == [len(b) for b in other]
        and len(one) <= 20
        and min(map(len, one)) > 0
    )


def test_texts_too_short_for_an_n_gram_have_no_number():
    numbers = measure_diversity([np.arange(3), np.arange(2)], 4).to_metrics()
    assert set(numbers) == {"distinct_1", "distinct_2", "distinct_3", "self_bleu"}


def test_what_does_not_fit_is_refused(data):
    family = Autoregressive(Bigram())
    with pytest.raises(UserError, match="samples must be at least 2"):
        TextDiversity(1)
    with pytest.raises(UserError, match="unit"):
        TextDiversity(unit="letters")
    with pytest.raises(UserError, match="needs a Autoregressive"):
        TextDiversity().check(toy.Toy(), data(Documents(8)).spec, {})
    with pytest.raises(UserError, match="needs texts, but the data are image"):
        TextDiversity().check(family, Digits().open().spec, {})
