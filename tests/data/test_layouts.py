"""Rows of tokens: every token is predicted once and from its own document, whatever the layout."""

import itertools

import numpy as np
import pytest

from genjax.data.stream import batches, pad_batches
from genjax.data.text.codecs import Bytes, Words
from genjax.data.text.corpus import Corpus
from genjax.data.text.layouts import Blocks, Documents, Packed, RandomWindows, best_fit
from genjax.errors import UserError

PLAIN, ENDED = Bytes(), Bytes(delimiter=True)


def corpus(*sizes: int) -> Corpus:
    """Documents of distinct tokens: document d holds 10 d, 10 d + 1, …"""
    documents = [10 * d + np.arange(size) for d, size in enumerate(sizes)]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Corpus(np.concatenate(documents).astype(np.uint16), starts)


def everything(split) -> dict[str, np.ndarray]:
    return split.batch(np.arange(len(split)))


def test_random_windows_are_all_windows():
    split = RandomWindows(4).split(corpus(7, 3), PLAIN)
    found = everything(split)
    flat = split.corpus.tokens
    assert np.array_equal(found["tokens"], [flat[i : i + 5] for i in range(6)])
    assert found["tokens"].dtype == np.int32 and found["loss_mask"].dtype == np.float32
    assert np.array_equal(found["loss_mask"], np.tile([0, 1, 1, 1, 1], (6, 1)))


def test_an_epoch_of_windows_is_a_permutation_and_goes_on_from_any_position():
    split = RandomWindows(4).split(corpus(9, 9), PLAIN)
    stream = batches(split, seed=3, position=0, batch_size=7)
    rows = [next(stream)["tokens"] for _ in range(6)]
    assert sorted(map(tuple, np.concatenate(rows[:2]))) == sorted(
        map(tuple, everything(split)["tokens"])
    )
    later = batches(split, seed=3, position=21, batch_size=7)
    assert np.array_equal(next(later)["tokens"], rows[3])
    assert not np.array_equal(np.concatenate(rows[:2]), np.concatenate(rows[2:4]))


def test_of_too_many_windows_only_so_many_are_taken(monkeypatch):
    monkeypatch.setattr("genjax.data.text.layouts.STARTS", 10)
    text = Corpus(np.arange(100, dtype=np.uint16), np.array([0, 100]))
    for length, stride, count in ((4, 4, 24), (20, 8, 10), (95, 1, 5)):
        starts = everything(RandomWindows(length).split(text, PLAIN))["tokens"][:, 0]
        assert np.array_equal(starts, stride * np.arange(count)) and starts[-1] + length < 100


@pytest.mark.parametrize("size", [2, 5, 9, 10, 13])
def test_blocks_predict_every_token_but_the_first_once(size):
    split = Blocks(4).split(
        Corpus(np.arange(size, dtype=np.uint16) + 5, np.array([0, size])), PLAIN
    )
    found = everything(split)
    predicted = found["tokens"][found["loss_mask"] == 1]
    assert predicted.tolist() == list(range(6, size + 5))
    assert found["tokens"].shape == (-(-(size - 1) // 4), 5)
    context = found["tokens"][:, :-1][found["loss_mask"][:, 1:] == 1]
    assert np.array_equal(context, predicted - 1)


def test_held_out_text_of_windows_comes_in_blocks():
    assert RandomWindows(7).held_out == Blocks(7)
    assert [layout.held_out for layout in (Blocks(3), Packed(3), Documents(3))] == [
        Blocks(3),
        Packed(3),
        Documents(3),
    ]


@pytest.mark.parametrize("layout", [Packed(6), Documents(6)])
@pytest.mark.parametrize("codec", [PLAIN, ENDED])
def test_each_token_of_a_document_is_predicted_once_from_the_one_before_it(layout, codec):
    sizes = (3, 1, 7, 8, 2, 20, 5)
    made = corpus(*sizes)
    found = everything(layout.split(made, codec))
    tokens, weigh = found["tokens"], found["loss_mask"] == 1
    assert not weigh[:, 0].any()
    pairs = list(
        zip(
            tokens[:, :-1][weigh[:, 1:]].tolist(), tokens[:, 1:][weigh[:, 1:]].tolist(), strict=True
        )
    )
    expected = []
    for d in range(len(sizes)):
        whole = ([] if codec.start is None else [codec.start]) + made.document(d).tolist()
        expected += list(itertools.pairwise(whole))
    assert sorted(pairs) == sorted(expected)


def test_packed_rows_tell_their_documents_apart():
    made = corpus(3, 4, 2, 5, 1)
    found = everything(Packed(6).split(made, ENDED))
    segments, positions, tokens = found["segment_ids"], found["positions"], found["tokens"]
    seen = []
    for row in range(len(tokens)):
        ids = segments[row]
        assert (np.diff(ids[ids > 0]) >= 0).all() and not ids[np.flatnonzero(ids == 0)[:1]].any()
        assert (ids > 0).sum() == np.flatnonzero(ids > 0)[-1] + 1  # padding comes last alone
        for segment in range(1, ids.max() + 1):
            here = ids == segment
            assert positions[row][here].tolist() == list(range(here.sum()))
            assert found["loss_mask"][row][here].tolist() == [0] + [1] * (here.sum() - 1)
            assert tokens[row][here][0] == 256
            seen.append(tokens[row][here][1:].tolist())
    assert sorted(seen) == [made.document(d).tolist() for d in range(5)]
    assert not found["loss_mask"][segments == 0].any() and not positions[segments == 0].any()


def test_long_documents_are_split_with_one_token_of_overlap_or_dropped(capsys):
    made = corpus(3, 12, 4)
    found = everything(Documents(5).split(made, PLAIN, "books"))
    assert found["tokens"][:, :6].tolist() == [
        [0, 1, 2, 0, 0, 0],
        [10, 11, 12, 13, 14, 15],
        [15, 16, 17, 18, 19, 20],
        [20, 21, 0, 0, 0, 0],
        [20, 21, 22, 23, 0, 0],
    ]
    assert found["loss_mask"].sum(1).tolist() == [2, 5, 5, 1, 3]
    assert (
        "books: 1 of 3 documents are longer than 6 tokens and are split" in capsys.readouterr().err
    )
    dropped = everything(Documents(5, "drop").split(made, PLAIN, "books"))
    assert dropped["tokens"][:, 0].tolist() == [0, 20]
    assert "1 of 3 documents are longer than 6 tokens and are dropped" in capsys.readouterr().err
    with pytest.raises(UserError, match="books has no document that can be predicted"):
        Packed(5, "drop").split(corpus(1), PLAIN, "books")


@pytest.mark.parametrize("layout", [Packed, Documents])
def test_a_set_that_would_lose_most_of_its_documents_is_refused_with_a_length(layout):
    made = corpus(*range(3, 63))
    told = r"books: 56 of 60 documents are longer than 6 tokens and would be dropped; length=59 "
    with pytest.raises(UserError, match=told) as error:
        layout(5, "drop").split(made, PLAIN, "books")
    assert error.value.field == "length" and 'long="split"' in str(error.value)
    kept = everything(layout(59, "drop").split(made, PLAIN, "books"))
    assert kept["loss_mask"].sum() == sum(n - 1 for n in range(3, 61))
    layout(5, "split").split(made, PLAIN, "books")


def test_padding_is_the_codecs_own():
    codec = Words(("a", "b"))
    found = everything(
        Documents(5).split(Corpus(np.array([4, 5, 3], np.uint16), np.array([0, 3])), codec)
    )
    assert found["tokens"].tolist() == [[2, 4, 5, 3, 0, 0]] and found["loss_mask"].tolist() == [
        [0, 1, 1, 1, 0, 0]
    ]


def test_best_fit_takes_the_fullest_row_and_wastes_little():
    assert best_fit(np.array([6, 5, 4, 3, 2, 1]), 10).tolist() == [0, 1, 0, 1, 1, 2]
    size = np.random.default_rng(0).integers(1, 65, 3000)
    row = best_fit(size, 64)
    used = np.bincount(row, size)
    assert used.max() <= 64 and np.array_equal(np.unique(row), np.arange(row.max() + 1))
    assert used.sum() / (64 * len(used)) > 0.97


def test_a_pass_in_order_pads_the_last_batch():
    split = Packed(6).split(corpus(3, 4, 2, 5, 6, 6, 6), PLAIN)
    found = list(pad_batches(split, 4))
    assert all(batch["tokens"].shape == (4, 7) for batch in found)
    assert sum(batch["mask"].sum() for batch in found) == len(split)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomWindows(0), "length must be >= 1, got 0"),
        (lambda: Packed(2.5), "length must be a whole number"),
        (lambda: Documents(4, "cut"), "long must be one of 'split', 'drop'"),
        (
            lambda: RandomWindows(9).split(corpus(9), PLAIN, "poem"),
            "length must be < 9, the tokens of poem, got 9",
        ),
        (lambda: Blocks(9).split(corpus(1), PLAIN, "poem"), "poem must have at least 2 tokens"),
        (
            lambda: Documents(9).split(corpus(1, 1), PLAIN, "poem"),
            "poem has no document that can be predicted",
        ),
    ],
)
def test_what_leaves_nothing_to_predict_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
