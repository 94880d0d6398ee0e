"""Prefixes: the given and the predicted part make up each document, wherever it is cut."""

import numpy as np
import pytest

from genjax.data.order.curriculum import Lengths
from genjax.data.sources import PythonDocs
from genjax.data.text.codecs import Bytes, Words
from genjax.data.text.corpus import Corpus
from genjax.data.text.layouts import Blocks, Documents, Packed, RandomWindows
from genjax.data.text.prefixes import Prefixed
from genjax.errors import UserError

PLAIN = Bytes()
SIZES = (3, 9, 2, 7, 5, 2, 8)


def corpus(*documents) -> Corpus:
    starts = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return Corpus(np.concatenate(documents).astype(np.uint16), starts)


DISTINCT = corpus(*(10 * d + np.arange(size) for d, size in enumerate(SIZES)))


def everything(split):
    return split.batch(np.arange(len(split)))


@pytest.mark.parametrize(
    "layout",
    [Packed(9), Documents(9), Packed(4), Documents(4), Blocks(6), RandomWindows(6)],
    ids=repr,
)
def test_a_prefix_begins_a_document_and_leaves_a_token_to_predict(layout):
    plain = everything(layout.split(DISTINCT, PLAIN))
    found = everything(Prefixed(layout).split(DISTINCT, PLAIN))
    np.testing.assert_array_equal(found["tokens"], plain["tokens"])
    prefix, predicted = found["prefix_mask"], found["loss_mask"]
    assert prefix.dtype == predicted.dtype == np.float32
    np.testing.assert_array_equal(predicted, plain["loss_mask"] * (1 - prefix))
    real = np.maximum(plain["loss_mask"], np.arange(len(plain["tokens"][0])) == 0)
    segments = plain.get("segment_ids", real.astype(int))
    for row in range(len(segments)):
        for segment in range(1, segments[row].max() + 1):
            here = segments[row] == segment
            given = prefix[row][here]
            assert given[0] == 1 and (np.diff(given) <= 0).all()  # a beginning, in one piece
            assert predicted[row][here][-1] == 1
            np.testing.assert_array_equal(given + predicted[row][here], 1)
    assert not prefix[segments == 0].any()


def test_all_lengths_of_a_prefix_are_as_likely_and_rows_do_not_depend_on_their_batch():
    text = Corpus(np.arange(4006, dtype=np.uint16), np.array([0, 4006]))
    split = Prefixed(RandomWindows(6)).split(text, PLAIN)
    sizes = everything(split)["prefix_mask"].sum(1).astype(int)
    counts = np.bincount(sizes, minlength=8)
    assert counts[0] == counts[7] == 0 and len(split) == 4000
    assert (
        np.square(counts[1:7] - 4000 / 6).sum() / (4000 / 6) < 20.5
    )  # chi-squared of 5, one in a thousand
    some = split.batch(np.array([17, 3999, 5]))["prefix_mask"].sum(1)
    np.testing.assert_array_equal(some, sizes[[17, 3999, 5]])
    other = everything(Prefixed(RandomWindows(6), seed=1).split(text, PLAIN))["prefix_mask"].sum(1)
    assert (other == sizes).mean() < 0.3


@pytest.mark.parametrize("layout", [Packed(9, "drop"), Documents(9, "drop")], ids=repr)
def test_a_prompt_goes_to_the_end_of_the_first_of_its_endings(layout, capsys):
    texts = [b"ab: x", b"no end", b"c: d: e", b": f", b"abc: "]
    documents = corpus(*(np.frombuffer(text, np.uint8) for text in texts))
    codec = Bytes(delimiter=True)
    documents = corpus(*(np.append(documents.document(i), 256) for i in range(5)))
    split = Prefixed(layout, until=": ").split(documents, codec, "talk")
    assert (
        "talk: 1 of 5 documents do not contain ': ' and have no prefix" in capsys.readouterr().err
    )
    found = everything(split)
    pairs = set()
    for row in range(len(split)):
        ids = found.get("segment_ids", np.ones_like(found["tokens"]))[row]
        for segment in range(1, ids.max() + 1):
            here = ids == segment
            tokens, given = found["tokens"][row][here], found["prefix_mask"][row][here] == 1
            predicted = found["loss_mask"][row][here] == 1
            pairs.add((codec.decode(tokens[given]), codec.decode(tokens[predicted])))
    assert pairs == {("ab: ", "x"), ("", "no end"), ("c: ", "d: e"), (": ", "f"), ("abc: ", "")}


def test_data_of_a_source_tell_their_prefix_and_a_curriculum_cuts_it_alike(tmp_path):
    data = PythonDocs(layout=Prefixed(Packed(16)), cache=str(tmp_path)).open()
    assert data.spec.prefixed and data.spec.packed
    for split in data.splits.values():
        batch = split.batch(np.arange(4))
        assert set(data.spec.entries) - {"mask"} == set(batch)
        for name, (shape, dtype) in data.spec.entries.items():
            assert name == "mask" or (
                batch[name].shape == (4, *shape) and batch[name].dtype == dtype
            )
        assert split.corpus is not None
    short = Lengths((8, 16), (5,))(0, batch)
    assert short["prefix_mask"].shape == (4, 9)
    assert Prefixed(RandomWindows(5), seed=3).held_out == Prefixed(Blocks(5), seed=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prefixed(Prefixed()), "Prefixed.layout must be RandomWindows"),
        (lambda: Prefixed(until=""), "Prefixed.until must be a text or None"),
        (lambda: Prefixed(Packed(9), until=":"), "Documents or Packed with long=.drop."),
        (lambda: Prefixed(Blocks(9), until=":"), "Documents or Packed with long=.drop."),
        (
            lambda: Prefixed(Packed(9, "drop"), until=":").split(DISTINCT, PLAIN, "poem"),
            "Prefixed.until must occur in a document of poem, got ':'",
        ),
        (
            lambda: Prefixed(Packed(9, "drop"), until=" ").split(DISTINCT, Words(("a",))),
            "must be at least one token of Words, got ' '",
        ),
    ],
)
def test_what_has_no_prefix_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
