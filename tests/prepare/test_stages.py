import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from genjax.data.audio.signals import read_wav, wav_bytes
from genjax.errors import UserError
from genjax.prepare.stage import hash_position
from genjax.prepare.stages.anonymous import Anonymous
from genjax.prepare.stages.images import Blur, ImageSize, StandardImages, sharpness
from genjax.prepare.stages.sounds import Sounding, StandardSounds
from genjax.prepare.stages.texts import BlockedWords, Length, Repetition, StandardText, SymbolRatio
from genjax.prepare.stages.values import Missing, Valid


def test_a_text_in_its_standard_form(judged):
    texts = [
        "Cafe\u0301\u200b\r\n  two\t\tblanks \n\n\n\nfour",
        "\ufeff \n",
        None,
        "trans-\nformer",
    ]
    table, reasons = judged(StandardText(), text=texts)
    assert table["text"].to_pylist() == ["Café\ntwo blanks\n\nfour", "", "", "trans-\nformer"]
    assert reasons == [None, "empty", "empty", None]
    table, _ = judged(StandardText(join_hyphenated=True, keep_lines=False), text=texts)
    assert table["text"].to_pylist() == ["Café two blanks four", "", "", "transformer"]


def test_lengths_are_of_characters_or_words(judged):
    texts = ["a", "three little words", None]
    assert judged(Length(2, 10), text=texts)[1] == ["too short", "too long", "too short"]
    assert judged(Length(1, 2, words=True), text=texts)[1] == [None, "too long", "too short"]
    with pytest.raises(UserError, match="most must be at least 3"):
        Length(3, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a b c d e f g h", None),
        ("one\ntwo\none\ntwo\none", "repeated lines"),  # 3 of 5 lines stood before
        ("one\ntwo\nthree\none\nfour", None),  # 1 of 5
        # "aaa bbb ccc" twice: 18 of 60 letters and more than 0.18, 6 of 20 words and less than 0.5
        ("aaa bbb ccc " * 2 + " ".join(f"w{i:02d}" for i in range(14)), "one n-gram everywhere"),
        ("x y z", None),
        ("", None),
    ],
)
def test_what_says_the_same_again_is_dropped(judged, text, reason):
    assert judged(Repetition(), text=[text])[1] == [reason]


def test_the_words_of_repeated_n_grams_are_counted_once():
    # Bigrams of a b a b c d: "a b" twice covers 4 of 6 words.
    stage = Repetition(ngram=2, top=1.0, repeated=0.66)
    assert stage.find_fault("a b a b c d") == "repeated n-grams"
    assert Repetition(ngram=2, top=1.0, repeated=0.67).find_fault("a b a b c d") is None


def test_symbols_and_digits_are_counted_without_blanks(judged):
    texts = ["abc !!", "abc !", "ab 12", "a 123", "  ", "é\u0301ö ß"]
    assert judged(SymbolRatio(0.3, 0.5), text=texts)[1] == [
        "too many symbols",
        None,
        None,
        "too many digits",
        None,
        None,
    ]


def test_blocked_words_are_whole_words_in_any_case(judged):
    stage = BlockedWords(("bad", "very bad", "c++"))
    texts = ["A BAD thing", "badly made", "in C++, too", "fine", None]
    assert judged(stage, text=texts)[1] == ["blocked words", None, "blocked words", None, None]
    assert judged(BlockedWords(("bad",), allowed=1), text=["bad", "bad bad"])[1] == [
        None,
        "blocked words",
    ]


def test_a_column_that_is_not_there_is_named(judged):
    with pytest.raises(
        UserError, match="unknown column of the records 'texts'; did you mean 'text'"
    ):
        judged(Length(column="texts"), text=["a"])


def test_missing_values_are_filled_or_dropped(judged):
    table, reasons = judged(
        Missing(("a", "b"), (("b", "?"),)), a=["x", None, " "], b=["y", None, ""]
    )
    assert table["b"].to_pylist() == ["y", "?", "?"]
    assert reasons == [None, "no a", "no a"] and Missing.broken


def test_values_have_a_form_and_a_range(judged):
    stage = Valid("age", r"\d+", least=0, most=120)
    assert judged(stage, age=["7", "x7", "121", None, "120"])[1] == [
        None,
        "wrong age",
        "age out of range",
        None,
        None,
    ]
    assert judged(Valid("age", least=0), age=["no"])[1] == ["age is not a number"]
    with pytest.raises(
        UserError, match=r"pattern must be a regular expression, got '\(': missing \),"
    ):
        Valid("age", "(")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail bob.smith+x@mail.example.co.uk.", "Mail <email>."),
        ("see https://example.com/a?b=c#d, then www.example.org/x.", "see <url>, then <url>."),
        ("from 192.168.0.1 or 2001:db8::8a2e:370:7334, not 999.1.1.1 or 12:30", None),
        (
            "card 4111 1111 1111 1111, not 4111 1111 1111 1112",
            "card <card>, not 4111 1111 1111 1112",
        ),
        ("call +49 (89) 123-4567 or 030/1234567", "call <phone> or <phone>"),
        (
            "in 1984, on 12.11.2020, 2020-11-12 10:30, for 123456789 dollars",
            "in 1984, on 12.11.2020, 2020-11-12 10:30, for 123456789 dollars",
        ),
        ("version 1.2.3.4.5 and pi 3.14159265", "version 1.2.3.4.5 and pi 3.14159265"),
    ],
)
def test_personal_data_become_marks(text, expected):
    if expected is None:
        expected = "from <ip> or <ip>, not 999.1.1.1 or 12:30"
    assert Anonymous().anonymise_text(text) == expected


def test_pseudonyms_tell_values_apart_and_need_the_key(monkeypatch):
    stage = Anonymous(pseudonyms=True)
    values = ("a@b.org", "A@B.org", "c@b.org", "+49 89 1234567", "+49-89-1234567")
    found = [stage.anonymise_text(value, b"key") for value in values]
    assert found[0] == found[1] != found[2] and found[3] == found[4]
    assert found[0].startswith("<email:") and len(found[0]) == len("<email:>") + 16
    assert stage.anonymise_text("a@b.org", b"other") != found[0]
    monkeypatch.delenv("GENJAX_PSEUDONYM_KEY", raising=False)
    import daft

    with pytest.raises(UserError, match="set the environment variable GENJAX_PSEUDONYM_KEY"):
        stage(daft.from_pydict({"id": ["a"], "text": ["b"]}))
    with pytest.raises(UserError, match="unknown kind of personal data 'mail'"):
        Anonymous(("mail",))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def test_images_in_their_standard_form(judged):
    clear = np.zeros((4, 6, 4), np.uint8)  # transparent: white
    table, reasons = judged(
        StandardImages(1, (2, 2)), image=[png(clear), png(np.full((8, 8), 7, np.uint8))]
    )
    found = [np.asarray(Image.open(io.BytesIO(content))) for content in table["image"].to_pylist()]
    assert (
        [x.shape for x in found] == [(2, 2), (2, 2)]
        and (found[0] == 255).all()
        and (found[1] == 7).all()
    )
    assert reasons == [None, None]


def test_images_of_the_wrong_shape_are_dropped(judged):
    images = [png(np.zeros(shape, np.uint8)) for shape in ((4, 4), (9, 9), (4, 40), (5, 8))]
    stage = ImageSize(least=5, most=30, aspect=1.7)
    assert judged(stage, image=[*images, png(np.zeros((5, 10), np.uint8))])[1] == [
        "too small",
        None,
        "too small",
        None,
        "too long a shape",
    ]
    assert judged(ImageSize(most=8), image=images[1:2])[1] == ["too large"]


def test_blur_is_the_variance_of_the_laplacian(judged):
    from scipy.ndimage import laplace

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (12, 10), np.uint8)
    expected = laplace(grey.astype(float))[1:-1, 1:-1].var()
    np.testing.assert_allclose(sharpness(grey), expected)
    assert sharpness(np.zeros((2, 9), np.uint8)) == 0
    assert judged(Blur(50.0), image=[png(grey), png(np.full((9, 9), 3, np.uint8))])[1] == [
        None,
        "blurred",
    ]


def test_sounds_get_one_rate_and_the_tone_stays(judged):
    seconds = np.arange(4000) / 4000
    tone = np.stack([8000 * np.sin(2 * np.pi * 440 * seconds)] * 2, 1).astype(np.int16)
    table, _ = judged(StandardSounds(16_000), signal=[wav_bytes(tone, 4000)])
    signal, rate = read_wav(table["signal"].to_pylist()[0])
    assert rate == 16_000 and signal.shape == (16_000, 1)
    spectrum = np.abs(np.fft.rfft(signal[:, 0]))
    assert spectrum.argmax() == 440
    loud = np.sqrt(np.square(signal / 2**15).mean())
    np.testing.assert_allclose(loud, 8000 / 2**15 / np.sqrt(2), rtol=0.01)


def test_sounds_that_are_short_long_or_silent_are_dropped(judged):
    sounds = [
        wav_bytes(np.full((n, 1), level, np.int16), 100)
        for n, level in ((10, 9000), (900, 9000), (200, 1))
    ]
    assert judged(Sounding(0.5, 5.0, 0.01), signal=sounds)[1] == ["too short", "too long", "silent"]


def test_the_place_of_a_text_is_even_and_its_own():
    places = np.array([hash_position(f"record {number}") for number in range(4000)])
    assert places.min() >= 0 and places.max() < 1
    counts = np.histogram(places, 10, (0, 1))[0]
    assert np.abs(counts - 400).max() < 4 * np.sqrt(400 * 0.9)
    assert hash_position("a", "one") != hash_position("a", "another")


def test_tables_keep_their_types(judged):
    table = pa.table({"text": pa.array([" a "], pa.large_string()), "n": pa.array([1], pa.int64())})
    found, _ = StandardText().rows(table)
    assert found.select(table.column_names).schema == table.schema
