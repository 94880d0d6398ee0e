"""Words of all scripts: what is split and put together again is what it was, and marks stay
where they belong.
"""

import random
import sys
import unicodedata

import numpy as np
import pytest

from genjax.data.text.codecs import Words
from genjax.data.text.hashed import HashedText
from genjax.data.text.words import join_words, normalise_words, split_words


def scripts():
    """Letters and marks of each script, by the first word of their names."""
    found = {}
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        if unicodedata.category(letter)[0] in "LM":
            found.setdefault(unicodedata.name(letter, "CJK").split()[0], []).append(letter)
    return found


def test_words_of_every_script_come_back():
    draw = random.Random(0)
    every = scripts()
    assert len(every) > 150
    for letters in every.values():
        text = " ".join("".join(draw.choices(letters, k=draw.randint(1, 8))) for _ in range(30))
        codec = Words().fit([text])
        assert codec.decode(codec.encode(text)) == text.lower()
        assert split_words(text) == text.split(" ")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "It's (so) good, isn't it?",
            "राम घर गया। ठीक?",
            "בְּרֵאשִׁית בָּרָא אֱלֹהִים",
            "আমি বাংলায় গান গাই।",
            "cafe\u0301 au lait",
        ),
        *(
            "at 12:30, 1.5 of -5 and .5",
            "你好，世界。",
            "สวัสดีครับ คุณ",
            'well-known „so“ «да» "hi"',
            "20 + 1 == 21",
        ),
        *("👨\u200d👩\u200d👧 👍🏽 🇩🇪 ❤\ufe0f 1\ufe0f\u20e3", "می\u200cخواهم ¿qué?"),
    ],
)
def test_sentences_come_back(text):
    assert join_words(split_words(text)) == text
    codec = Words().fit([text])
    assert codec.decode(codec.encode(text)) == text.lower()


def test_what_may_differ_and_what_may_not():
    same = [
        "Hello, World!",
        "hello \u2014 world...",
        "\u201cHello\u201d WORLD",
        "hel\u00adlo\nworld?",
    ]
    assert {tuple(normalise_words(text)) for text in same} == {("hello", "world")}
    assert normalise_words("ไทย 你好，don\u2019t") == ["ไ", "ท", "ย", "你", "好", "don't"]
    assert (
        normalise_words("STRASSE Straße cafe\u0301 caf\u00e9")
        == ["strasse"] * 2 + ["caf\u00e9"] * 2
    )


def test_hashed_text_keeps_marks_and_signs():
    embed = HashedText(64).embed
    assert not np.array_equal(embed("राम घर गया"), embed("राम घर गयी"))
    assert not np.array_equal(embed("20 + 1"), embed("20 - 1"))
