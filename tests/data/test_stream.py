from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest

from genjax.data import stream
from genjax.errors import UserError


@dataclass(frozen=True)
class Numbers:
    """A split whose example i is the number i."""

    size: int
    in_memory: bool = True

    def __len__(self) -> int:
        return self.size

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"points": indices.astype(np.float32)[:, None]}


def numbers(batches) -> list[np.ndarray]:
    return [batch["points"][:, 0].astype(int) for batch in batches]


def test_order_is_a_permutation_that_changes_with_seed_and_epoch():
    for size in (1, 2, 17, 1000):
        assert sorted(stream.order(3, 5, size)) == list(range(size))
    one = stream.order(0, 0, 1000)
    for other in (stream.order(0, 1, 1000), stream.order(1, 0, 1000)):
        assert np.mean(one == other) < 0.02
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.15


def test_order_is_pinned():
    # a run resumed under another numpy must see the same examples
    assert stream.order(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert stream.order(2**70 + 7, 3, 5).tolist() == stream.order(7 + 2**70 % 2**64, 3, 5).tolist()


def test_random_words_are_found_at_any_place():
    words = stream.raw_bits(7, 2**63 + 1, 40)
    for first in (0, 1, 3, 4, 17):
        assert np.array_equal(stream.raw_bits(7, 2**63 + 1, 9, first), words[first : first + 9])
    assert len(np.unique(stream.raw_bits(7, 0, 9, 10**13))) == 9


def test_order_is_cached_and_cannot_be_spoilt():
    first = stream.order(0, 0, 10)
    assert first is stream.order(0, 0, 10)
    with pytest.raises(ValueError):
        first[0] = 1


def test_indices_are_the_epochs_end_to_end():
    size = 7
    whole = np.concatenate([stream.order(1, epoch, size) for epoch in range(6)])
    for position in range(20):
        for count in (0, 1, 6, 7, 8, 20):
            got = stream.indices(1, position, count, size)
            assert got.tolist() == whole[position : position + count].tolist()


def test_indices_of_an_empty_split_are_refused():
    with pytest.raises(UserError, match="no examples"):
        stream.indices(0, 0, 4, 0)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    "batch_size", [3, 10, 25]
)  # smaller than, equal to, larger than the data set
def test_resuming_equals_not_stopping(in_memory, batch_size):
    split = Numbers(10, in_memory)
    with closing(stream.batches(split, seed=4, position=0, batch_size=batch_size)) as whole:
        expected = numbers(islice(whole, 8))
    for done in (1, 5):
        with closing(
            stream.batches(split, seed=4, position=done * batch_size, batch_size=batch_size)
        ) as resumed:
            got = numbers(islice(resumed, 8 - done))
        assert np.array_equal(got, expected[done:])
    seen = np.concatenate(expected)[: 8 * batch_size // 10 * 10]
    assert np.array_equal(
        np.bincount(seen), np.full(10, len(seen) // 10)
    )  # every epoch, each example once


@pytest.mark.parametrize("in_memory", [True, False])
def test_two_processes_see_the_whole(in_memory):
    split = Numbers(10, in_memory)

    def read(rows: slice) -> list[np.ndarray]:
        with closing(stream.batches(split, seed=0, position=6, batch_size=6, rows=rows)) as batches:
            return numbers(islice(batches, 5))

    whole = read(slice(None))
    halves = [
        np.concatenate(pair) for pair in zip(read(slice(0, 3)), read(slice(3, 6)), strict=True)
    ]
    assert np.array_equal(whole, halves)


@dataclass(frozen=True)
class Backwards(Numbers):
    """Numbers that come from the last to the first."""

    @property
    def order(self):
        return lambda seed, position, count, batch_size: (
            self.size - 1 - np.arange(position, position + count)
        )


def test_the_order_is_that_asked_for_or_the_splits_own():
    def read(split, **options):
        return next(stream.batches(split, seed=0, position=4, batch_size=4, **options))["points"][
            :, 0
        ].tolist()

    assert (
        read(Numbers(10))
        == stream.indices(0, 4, 4, 10).tolist()
        == stream.Shuffled(10)(0, 4, 4, 4).tolist()
    )
    assert read(Backwards(10)) == [5, 4, 3, 2]
    assert read(Backwards(10), order=stream.Shuffled(10)) == read(Numbers(10))


def test_mask_of_training_batches_is_ones():
    batch = next(stream.batches(Numbers(5), seed=0, position=0, batch_size=8, rows=slice(2, 8)))
    assert batch["mask"].tolist() == [1.0] * 6 and batch["mask"].dtype == np.float32


def test_worker_processes_give_the_same_batches():
    threads = stream.batches(Numbers(10, in_memory=False), seed=2, position=3, batch_size=4)
    workers = stream.batches(
        Numbers(10, in_memory=False), seed=2, position=3, batch_size=4, workers=2
    )
    with closing(threads) as one, closing(workers) as two:
        assert np.array_equal(numbers(islice(one, 6)), numbers(islice(two, 6)))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("size", "limit", "total", "count"),
    [
        (10, None, 10, 3),
        (8, None, 8, 2),
        (3, None, 3, 1),
        (10, 5, 5, 2),
        (10, 99, 10, 3),
        (10, 0, 0, 0),
    ],
)
def test_padded_counts_every_example_once(in_memory, size, limit, total, count):
    batches = list(stream.pad_batches(Numbers(size, in_memory), 4, limit=limit))
    assert len(batches) == count
    assert all(batch["points"].shape == (4, 1) and batch["mask"].shape == (4,) for batch in batches)
    real = [n for b in batches for n, m in zip(b["points"][:, 0], b["mask"], strict=True) if m == 1]
    padding = [
        n for b in batches for n, m in zip(b["points"][:, 0], b["mask"], strict=True) if m == 0
    ]
    assert real == list(range(total))
    assert padding == [0] * (4 * count - total)


def test_padded_slices_make_the_whole():
    split = Numbers(9)
    whole = list(stream.pad_batches(split, 4))
    halves = [list(stream.pad_batches(split, 4, rows)) for rows in (slice(0, 2), slice(2, 4))]
    for batch, one, two in zip(whole, *halves, strict=True):
        for name in batch:
            assert np.array_equal(batch[name], np.concatenate([one[name], two[name]]))
    assert halves[1][-1]["mask"].tolist() == [
        0,
        0,
    ]  # the last rows of all: nothing real on this process


def test_bad_sizes_are_refused():
    with pytest.raises(UserError, match="batch_size"):
        stream.batches(Numbers(4), seed=0, position=0, batch_size=0)
    with pytest.raises(UserError, match="workers"):
        stream.batches(Numbers(4), seed=0, position=0, batch_size=1, workers=-1)
    with pytest.raises(UserError, match="no examples"):
        stream.pad_batches(Numbers(0), 4)
