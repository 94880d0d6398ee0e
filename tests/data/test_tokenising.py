"""Tokens of long texts: the same on all cores, after a kill, and from two processes at once."""

import json

import numpy as np
import pytest

from genjax.data.text import encoding, writing
from genjax.data.text.codecs import Bytes, Characters, Words
from genjax.data.text.corpus import tokenise
from genjax.data.text.documents import FileTexts
from genjax.data.text.encoding import encode_pieces
from genjax.data.text.subwords import Subwords
from genjax.data.text.writing import hold_part
from genjax.errors import UserError


@pytest.mark.parametrize("codec", [Characters("\nab"), Subwords(size=300).fit(["ab\n" * 9])])
@pytest.mark.parametrize("unit", ["files", "lines"])
def test_tokens_of_a_killed_process_are_continued(tmp_path, monkeypatch, codec, unit):
    for name in "xyz":
        text = "".join("ab\n"[i % 3] * (i % 5) for i in range(3000))
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    paths = tuple(tmp_path / f"{name}.txt" for name in "xyz")
    texts = FileTexts(tmp_path, paths, unit)
    whole = tokenise(texts, codec, tmp_path / "whole")
    monkeypatch.setattr(writing, "SAVED", 1000)
    monkeypatch.setattr(encoding, "BATCH", 200)
    true, left = writing.TokenFolder.append, 3 if unit == "files" else 900

    def append(self, tokens):
        nonlocal left
        true(self, tokens)
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(writing.TokenFolder, "append", append)
    with pytest.raises(KeyboardInterrupt):
        tokenise(texts, codec, tmp_path / "cache")
    (part,) = (tmp_path / "cache").iterdir()
    done = json.loads((part / "progress.json").read_text(encoding="utf-8"))
    assert 0 < done["characters"] < whole.text_characters
    encoded: list[str] = []
    monkeypatch.setattr(
        "genjax.data.text.corpus.encode_pieces",
        lambda pieces, codec: encode_and_count(pieces, codec, encoded),
    )
    found = tokenise(texts, codec, tmp_path / "cache")
    assert sum(map(len, encoded)) == whole.text_characters - done["characters"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [part.stem]
    for name in ("tokens", "starts", "domain"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    assert found.domains == whole.domains == ("x.txt", "y.txt", "z.txt")
    assert (found.text_characters, found.text_bytes) == (whole.text_characters, whole.text_bytes)


def encode_and_count(pieces, codec, encoded):
    for piece, ids in encode_pieces(pieces, codec):
        encoded.append(piece.text)
        yield piece, ids


def test_two_processes_that_tokenise_the_same_do_not_meet(tmp_path):
    (tmp_path / "a.txt").write_text("some text", encoding="utf-8")
    texts = FileTexts(tmp_path, (tmp_path / "a.txt",))
    cache = tmp_path / "cache"
    whole = tokenise(texts, Bytes(), tmp_path / "whole")
    (name,) = (path.name for path in (tmp_path / "whole").iterdir())
    cache.mkdir()
    with hold_part(cache / name) as held:
        found = tokenise(texts, Bytes(), cache)
        assert np.array_equal(found.tokens, whole.tokens)
        assert held.is_dir() and (cache / name).is_dir()


def test_long_texts_are_encoded_by_children_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH", 100)
    monkeypatch.setattr(encoding, "ALONE", 150)
    lines = [f"the line {i} of many\n" for i in range(60)]
    (tmp_path / "a.txt").write_text("".join(lines), encoding="utf-8")
    texts = FileTexts(tmp_path, (tmp_path / "a.txt",), "lines")
    codec = Words().fit(lines)
    found = tokenise(texts, codec, tmp_path / "cache")
    assert [codec.decode(found.document(i)) for i in range(60)] == [line.strip() for line in lines]
    bad = Characters("\n abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(UserError, match="'0' .* line 1 of a.txt"):
        tokenise(texts, bad, tmp_path / "cache")


@pytest.mark.parametrize("unknown", ["refuse", "token"])
@pytest.mark.parametrize("model", ["bpe", "wordpiece", "unigram"])
def test_several_texts_at_once_have_the_tokens_of_each(model, unknown):
    codec = Subwords(model, size=400, unknown=unknown).fit(["what is said here is said twice " * 9])
    texts = ["said here", "", "<|endoftext|> is what is said", "\ud800 here", "is it?"]
    if unknown == "refuse" and model == "wordpiece":
        texts = ["said here", "", "is what is said", "here"]
        with pytest.raises(UserError):
            codec.encode_all(["said", "\N{SNOWMAN}"])
    together = codec.encode_all(texts)
    assert all(np.array_equal(a, codec.encode(b)) for a, b in zip(together, texts, strict=True))
