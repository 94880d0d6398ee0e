"""Texts of every block of Unicode through every codec: what comes out is what went in, or what
is documented.
"""

import random
import unicodedata

import numpy as np
import pytest

from genjax.data.text.codecs import REPLACEMENT, Bytes, Characters, Words
from genjax.data.text.hashed import HashedText
from genjax.data.text.subwords import Subwords

ODD = (
    "👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ❤️ ☎︎",  # joined emoji, skin, flags, variation selectors
    "각 한글 ᄀ",  # Hangul as jamo and as syllables
    "א\u200e שלום! (עברית) \u202bمرحبا\u202c",  # right to left, with marks of direction
    "a\x00b\x07c \x1b[0m\x7f \x85\u2028\u2029",  # control characters
    "e\u0301\u0323 x\u20dd \u0301 \u0e01\u0e33",  # marks of several kinds, one without a letter
    "नमस्ते दुनिया क्ष",
    "ǅ İ ß ﬁ Σίσυφος",  # case is not simple
)


def drawn() -> list[str]:
    """A text of words of the characters of each 128 code points that hold some, and a few odd
    ones.
    """
    rng = random.Random(0)
    texts = []
    for begin in range(0, 0x110000, 128):
        block = [
            chr(c)
            for c in range(begin, begin + 128)
            if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")
        ]
        if block:
            a, b, c = ("".join(rng.choices(block, k=4)) for _ in range(3))
            texts.append(f"{a} {b}\u0301 {c}.")
    return texts + list(ODD)


TEXTS = drawn()


@pytest.fixture(scope="module")
def from_file(tmp_path_factory):
    """A codec whose tokenizer is a file of Hugging Face's."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(Subwords("bpe", 400).fit(TEXTS).tokenizer, encoding="utf-8")
    return Subwords(file=str(path)).fit([])


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe", "unigram", "file"])
def test_every_text_comes_back_as_it_was(kind, from_file):
    assert len(TEXTS) > 1000
    made = {
        "characters": Characters,
        "bytes": Bytes,
        "bpe": lambda: Subwords("bpe", 300),
        "unigram": lambda: Subwords("unigram", 300),
        "file": lambda: from_file,
    }
    codec = made[kind]().fit(TEXTS)
    wrong = [text for text in TEXTS if codec.decode(codec.encode(text)) != text]
    assert not wrong


@pytest.mark.parametrize("lower", [True, False])
def test_words_lose_no_character_but_blanks_and_come_back_to_the_same_words(lower):
    codec = Words(lower=lower).fit(TEXTS)
    for text in TEXTS:
        found, written = codec.decode(codec.encode(text)), text.lower() if lower else text
        assert found.split() == written.split() or "".join(found.split()) == "".join(
            written.split()
        ), text
        assert codec.encode(found).tolist() == codec.encode(text).tolist(), text


def test_hashed_texts_are_the_same_in_either_spelling_and_case_and_differ_by_their_words():
    codec = HashedText(16)
    vectors = np.stack([codec.embed(text) for text in TEXTS])
    again = np.stack([codec.embed(unicodedata.normalize("NFD", text)) for text in TEXTS])
    assert (vectors == again).all()
    assert len(np.unique(vectors, axis=0)) >= 0.99 * len(TEXTS)
    assert (codec.embed("Σίσυφος ÉTÉ") == codec.embed("ΣΊΣΥΦΟΣ e\u0301te\u0301")).all()


@pytest.mark.parametrize("half", ["\ud83d", "\ude00", "\udce9", "a\ud83d\ude00b"])
def test_half_an_emoji_is_a_replacement_character_to_every_codec(half, from_file):
    whole = "".join(REPLACEMENT if "\ud800" <= c <= "\udfff" else c for c in half)
    for codec in (Bytes(), from_file):
        assert codec.decode(codec.encode(f"x {half} y")) == f"x {whole} y"
    assert (HashedText().embed(f"x {half}") == HashedText().embed(f"x {whole}")).all()
