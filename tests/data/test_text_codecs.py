"""Codecs of text: any text comes back, what is unknown is named with its place, and a run's
JSON is all they need.
"""

import json

import numpy as np
import pytest

from genjax.config_files import to_json
from genjax.data.text.codecs import Bytes, Characters, Unencodable, Words, cut_at_end
from genjax.data.text.subwords import Subwords
from genjax.errors import UserError
from genjax.serial.stored import from_json

ANY = "Ünïcödé → 你好 🙂\n\n  two  spaces\tTab <|endoftext|> \x00 e\u0301 \u2028 end"
PROSE = "the quick brown fox jumps over the lazy dog; the dog, the fox (and the rest) sleep.\n" * 40
CODECS = [
    Characters().fit([PROSE, ANY]),
    Characters(delimiter=True, unknown="token").fit([ANY]),
    Bytes(),
    Bytes(delimiter=True),
    Subwords("bpe", 300).fit([PROSE]),
    Subwords("unigram", 300).fit([PROSE]),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("text", [ANY, "", " ", "\r\n", "<|endoftext|>"])
def test_any_text_comes_back_as_it_was(codec, text):
    if isinstance(codec, Characters):
        text = "".join(c for c in text if c in codec.characters)
    ids = codec.encode(text)
    assert (
        ids.dtype == np.int32
        and ids.ndim == 1
        and (ids < codec.vocabulary).all()
        and (ids >= 0).all()
    )
    assert codec.decode(ids) == text
    special = {codec.start, codec.end, codec.pad} - {None}
    assert not special & set(ids.tolist())  # what a text says does not end it


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_fitted_codec_comes_back_equal_through_json(codec):
    again = from_json(json.loads(json.dumps(to_json(codec))))
    assert again == codec and hash(again) == hash(codec)
    assert np.array_equal(again.encode("the dog"), codec.encode("the dog"))


@pytest.mark.parametrize(
    "codec", [c for c in CODECS if c.token_bytes is not None], ids=lambda c: type(c).__name__
)
def test_the_bytes_of_tokens_add_up_to_those_of_the_text(codec):
    text = PROSE if isinstance(codec, Subwords) else ANY
    assert codec.token_bytes.shape == (codec.vocabulary,)
    assert codec.token_bytes[codec.encode(text)].sum() == len(text.encode())
    assert all(codec.token_bytes[i] == 0 for i in (codec.start, codec.end) if i is not None)


def test_characters_are_sorted_behind_the_special_tokens():
    codec = Characters(delimiter=True).fit(["ba", "cab"])
    assert (codec.characters, codec.vocabulary, codec.start, codec.end, codec.pad) == (
        "abc",
        4,
        0,
        0,
        None,
    )
    assert codec.encode("cab").tolist() == [3, 1, 2]
    assert codec.decode(np.array([0, 1, 2, 0])) == "ab"


def test_an_unknown_character_is_named_with_its_place_or_has_a_token():
    codec = Characters("abc")
    with pytest.raises(
        Unencodable,
        match=r"'é' \(U\+00E9\) at character 2 of the text.*vocabulary of 3.*unknown='token'",
    ):
        codec.encode("abé")
    with pytest.raises(UserError, match="at character 1,002 of book.txt"):
        try:
            codec.encode("abé")
        except Unencodable as error:
            raise error.shift(1000, "book.txt") from None
    kept = Characters("abc", unknown="token")
    assert kept.encode("azé").tolist() == [1, 0, 0] and kept.decode(np.array([1, 0])) == "a\ufffd"
    assert Characters("abc", delimiter=True, unknown="token").encode("z").tolist() == [1]


def test_bytes_are_those_of_utf8_and_broken_ones_do_not_stop_decoding():
    assert Bytes().encode("é€").tolist() == list("é€".encode())
    assert Bytes(True).decode(np.array([256, 0xC3, 65, 256])) == "\ufffdA"


def test_words_are_lower_case_by_frequency_and_rare_ones_unknown():
    codec = Words(min_frequency=2).fit(["A dog, a cat.", "A dog barks!"])
    assert codec.words == ("a", "dog") and codec.vocabulary == 6
    assert codec.encode("A cat, a DOG").tolist() == [4, 1, 1, 4, 5]
    assert (codec.pad, codec.start, codec.end) == (0, 2, 3)
    assert codec.decode(np.array([2, 4, 1, 5, 3, 0])) == "a <unk> dog"
    whole = Words(lower=False).fit(["It's (so) good, isn't it?"])
    assert whole.decode(whole.encode("It's good, isn't it?")) == "It's good, isn't it?"


def test_wordpiece_knows_words_and_names_what_it_cannot_spell():
    codec = Subwords("wordpiece", 120).fit([PROSE])
    assert (
        codec.decode(codec.encode("the lazy fox")) == "the lazy fox" and codec.token_bytes is None
    )
    with pytest.raises(Unencodable, match="'你好' at character 4"):
        codec.encode("the 你好 fox")
    kept = Subwords("wordpiece", 120, unknown="token").fit([PROSE])
    assert kept.encode("你好").tolist() == [kept._unknown_id]


def test_subwords_compress_and_keep_to_their_size():
    codec = Subwords("bpe", 300).fit([PROSE])
    assert 257 < codec.vocabulary <= 300 and len(codec.encode(PROSE)) < len(PROSE) / 2
    assert codec.end == 0 and codec.start is None
    assert Subwords("bpe", 300).fit([PROSE]) == codec  # the same each time


def test_a_tokenizer_json_is_loaded_and_kept_with_the_codec(tmp_path):
    from tokenizers import Tokenizer

    made = Subwords("bpe", 300, ("<s>", "</s>"), "<s>", "</s>").fit([PROSE])
    tokenizer = Tokenizer.from_str(made.tokenizer)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = Subwords(
        file=str(tmp_path / "tokenizer.json"), start_token="<s>", end_token="</s>"
    ).fit([])
    (tmp_path / "tokenizer.json").unlink()
    again = from_json(json.loads(json.dumps(to_json(loaded))))
    assert np.array_equal(again.encode(PROSE), made.encode(PROSE))  # neither truncated nor padded
    assert (again.start, again.end, again.vocabulary) == (0, 1, made.vocabulary)


def test_a_loaded_tokenizer_that_would_drop_letters_names_the_first(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([PROSE], trainers.BpeTrainer(vocab_size=60, show_progress=False))
    tokenizer.save(str(tmp_path / "t.json"))
    codec = Subwords(file=str(tmp_path / "t.json"), end_token=None).fit([])
    assert len(codec.encode("the lazy  dog\n")) > 0
    with pytest.raises(Unencodable, match="'é' at character 7 of the text.*has no token for it"):
        codec.encode("the dogé")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Characters("ba"), "sorted and distinct"),
        (lambda: Characters("ab", unknown="skip"), "unknown must be one of 'refuse', 'token'"),
        (lambda: Characters().encode("a"), "Characters has no vocabulary yet"),
        (lambda: Words().encode("a"), "Words has no vocabulary yet"),
        (lambda: Subwords().encode("a"), "Subwords has no vocabulary yet"),
        (lambda: Characters("ab").decode(np.array([2])), "tokens must be from 0 to 1"),
        (lambda: Bytes().decode(np.array([-1])), "tokens must be from 0 to 255"),
        (lambda: Words(min_frequency=0), "min_frequency"),
        (lambda: Words(min_frequency=9).fit(["a b"]), "min_frequency must not exceed"),
        (lambda: Subwords("bpee"), "model must be one of 'bpe', 'wordpiece', 'unigram'"),
        (lambda: Subwords("bpe", 200), "size must be > 257 for bpe, got 200"),
        (lambda: Subwords(end_token="</s>"), "unknown special token for end_token '</s>'"),
        (
            lambda: Subwords(file="/nowhere/tokenizer.json").fit([]),
            "must be a tokenizer.json, but is not a file",
        ),
        (lambda: Subwords(tokenizer="{}").vocabulary, "not a usable tokenizer.json"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_tokenizer_without_the_named_end_is_refused(tmp_path):
    made = Subwords("bpe", 300, ("<s>",), None, None).fit([PROSE])
    (tmp_path / "t.json").write_text(made.tokenizer)
    with pytest.raises(UserError, match=r"no token '<\|endoftext\|>'"):
        Subwords(file=str(tmp_path / "t.json")).fit([])


def test_samples_are_written_up_to_their_end(tmp_path):
    codec = Characters(delimiter=True).fit(["ab\n"])
    rows = np.array([[0, 2, 3, 0, 2], [3, 3, 0, 0, 0], [0, 0, 2, 2, 2]])
    path = codec.write(rows, tmp_path / "step_1.5")
    assert path.name == "step_1.5.txt" and path.read_text() == "ab\nbb\n\n"
    several = codec.write(np.array([[2, 1, 3], [3, 3, 3]]), tmp_path / "b").read_text()
    assert several.splitlines() == ["a", "b", "-" * 40, "bbb"]
    assert cut_at_end(np.array([5, 5, 1]), None).tolist() == [5, 5, 1]
