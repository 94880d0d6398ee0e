"""Curricula: what they show at a step is what they promise for it, on one process, on several
and after a stop.
"""

import contextlib
import pickle
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from scipy.stats import chisquare

from genjax.data import stream
from genjax.data.order.curriculum import ByDifficulty, Lengths, NoiseLevels, Resolutions
from genjax.data.order.difficulty import TextLength
from genjax.data.order.pacing import LinearPacing, StepPacing
from genjax.errors import UserError
from tests.data.test_stream import Numbers

BATCH = {
    "image": np.random.default_rng(0).normal(size=(2, 8, 4, 3)).astype(np.float32),
    "label": np.arange(2),
}
GROWING = Resolutions((2, 4, 8), steps=(10, 20), fade=4)


@pytest.mark.parametrize(
    ("step", "height", "fade"),
    [
        (0, 2, 1),
        (9, 2, 1),
        (10, 4, 0),
        (11, 4, 0.25),
        (14, 4, 1),
        (29, 4, 1),
        (30, 8, 0),
        (33, 8, 0.75),
        (999, 8, 1),
    ],
)
def test_stages_begin_and_fade_where_they_should(step, height, fade):
    found = GROWING(step, BATCH)
    assert (
        found["image"].shape == (2, height, height // 2, 3) and found["image"].dtype == np.float32
    )
    np.testing.assert_array_equal(found["fade"], np.full(2, fade, np.float32))
    np.testing.assert_array_equal(found["label"], BATCH["label"])


def test_low_resolutions_are_means_of_blocks():
    found = GROWING(0, BATCH)["image"]
    np.testing.assert_allclose(found[1, 1, 0, 2], BATCH["image"][1, 4:8, 0:4, 2].mean(), rtol=1e-5)
    np.testing.assert_array_equal(GROWING(40, BATCH)["image"], BATCH["image"])


def test_starts_are_the_first_steps_of_the_stages():
    assert GROWING.starts == (0, 10, 30)
    assert Resolutions((8,), ()).starts == (0,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": ()}, "rise from 1"),
        ({"sizes": (4, 2, 8)}, "rise from 1"),
        ({"sizes": (2, 8), "steps": (1, 1)}, r"steps must be one fewer than \w+, each at least 1"),
        ({"sizes": (2, 8), "steps": (0,)}, r"steps must be one fewer than \w+, each at least 1"),
        ({"fade": -1}, "fade"),
    ],
)
def test_what_makes_no_curriculum_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Resolutions(**fields)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="sizes must divide the image size 8x4, got 3"):
        Resolutions((3, 8), (5,))(0, BATCH)
    with pytest.raises(UserError, match="must end with 8"):
        Resolutions((2, 4), (5,))(0, BATCH)
    with pytest.raises(UserError, match="needs a batch with images"):
        GROWING(0, {"points": np.zeros((2, 2))})


ROWS = {
    "tokens": np.arange(18, dtype=np.int32).reshape(2, 9),
    "loss_mask": np.ones((2, 9), np.float32),
    "segment_ids": np.ones((2, 9), np.int32),
    "positions": np.arange(18, dtype=np.int32).reshape(2, 9) % 9,
    "source_tokens": np.zeros((2, 9), np.int32),
    "mask": np.ones(2, np.float32),
}


@pytest.mark.parametrize(("step", "length"), [(0, 2), (9, 2), (10, 4), (29, 4), (30, 8), (999, 8)])
def test_rows_of_tokens_grow_where_they_should(step, length):
    found = Lengths((2, 4, 8), steps=(10, 20))(step, ROWS)
    for name in ("tokens", "loss_mask", "segment_ids", "positions"):
        np.testing.assert_array_equal(found[name], ROWS[name][:, : length + 1])
    assert found["source_tokens"].shape == (2, 9) and found["mask"].shape == (2,)
    assert Lengths((2, 4, 8), steps=(10, 20)).starts == (0, 10, 30)


def test_rows_that_do_not_fit_the_curriculum_are_refused():
    with pytest.raises(UserError, match="lengths must end with 8, the length of the data"):
        Lengths((2, 9), (5,))(0, ROWS)
    with pytest.raises(UserError, match="a batch with tokens"):
        Lengths()(0, BATCH)
    with pytest.raises(UserError, match="lengths must rise from 1"):
        Lengths((4, 2), (5,))
    with pytest.raises(UserError, match=r"steps must be one fewer than \w+, each at least 1"):
        Lengths((2, 4), (5, 6))


def plain(seed, position, count, size):
    return stream.indices(seed, position, count, size).tolist()


SCORES = np.random.default_rng(1).permutation(40).astype(float)  # each is its own rank
PACED = ByDifficulty(TextLength(), LinearPacing(0.25, 30))  # 30 steps of 8: 240 positions


@pytest.mark.parametrize("order", ["easy_first", "hard_first"])
def test_examples_come_from_the_share_that_the_pacing_opens_and_then_in_the_plain_order(order):
    found = replace(PACED, order=order).make_order(SCORES)(5, 0, 480, 8)
    for step, chosen in enumerate(found[:240].reshape(-1, 8)):
        share = int(np.ceil((0.25 + 0.75 * step / 30) * 40))
        assert (
            (SCORES[chosen] < share).all()
            if order == "easy_first"
            else (SCORES[chosen] >= 40 - share).all()
        )
    assert found[240:].tolist() == plain(5, 240, 240, 40)
    for epoch in range(6, 12):
        assert sorted(found[40 * epoch : 40 * epoch + 40]) == list(range(40))  # each once an epoch


def test_draws_are_even_over_the_share():
    paced = ByDifficulty(TextLength(), StepPacing(0.25, 10_000, 1)).make_order(SCORES)
    counts = np.bincount(paced(0, 0, 8000, 8), minlength=40)
    assert (counts[SCORES >= 10] == 0).all()
    assert chisquare(counts[SCORES < 10]).pvalue > 0.01
    assert paced(0, 0, 80, 8).tolist() != paced(1, 0, 80, 8).tolist()


def test_equal_scores_keep_the_order_of_the_split_both_ways():
    scores = np.array([1.0, 0.0, 1.0, 0.0])
    assert ByDifficulty().make_order(scores).ranking.tolist() == [1, 3, 0, 2]
    assert ByDifficulty(order="hard_first").make_order(scores).ranking.tolist() == [0, 2, 1, 3]


def test_the_order_is_pinned():
    # a run resumed under another numpy must see the same examples
    assert PACED.make_order(SCORES)(0, 100, 8, 8).tolist() == [13, 30, 6, 16, 10, 7, 37, 35]


@pytest.mark.parametrize("several", [1, 2])
def test_two_processes_and_a_resumed_run_see_the_same(several):
    split, order = Numbers(40), PACED.make_order(SCORES)

    def read(position, count, rows=slice(None)):
        made = stream.batches(
            split, seed=5, position=position, batch_size=8, rows=rows, several=several, order=order
        )
        with contextlib.closing(made) as found:
            return np.stack([batch["points"][..., 0] for batch in islice(found, count)])

    whole = read(0, 40)
    assert np.array_equal(whole.ravel(), order(5, 0, whole.size, 8))
    halves = [read(0, 40, slice(0, 4)), read(0, 40, slice(4, 8))]
    assert np.array_equal(np.concatenate(halves, -1), whole)
    for done in (1, 13, 32):  # within the pacing, and beyond
        assert np.array_equal(read(8 * several * done, 5), whole[done : done + 5])


def test_worker_processes_can_hold_the_order():
    order = PACED.make_order(SCORES)
    assert np.array_equal(pickle.loads(pickle.dumps(order))(5, 232, 16, 8), order(5, 232, 16, 8))


def test_an_order_that_is_none_is_refused():
    with pytest.raises(UserError, match="order must be one of 'easy_first', 'hard_first'"):
        ByDifficulty(order="easy")  # type: ignore[arg-type]


def test_curricula_say_what_they_change():
    for curriculum in (GROWING, Lengths(), NoiseLevels()):
        assert curriculum.changes_batches and curriculum.score is None
    assert (
        not PACED.changes_batches
        and PACED.score == TextLength()
        and PACED.starts == NoiseLevels().starts == (0,)
    )
    assert PACED(3, BATCH) is BATCH


def test_noise_levels_move_on_a_line_from_the_first_to_the_last():
    curriculum = NoiseLevels((-20.0, 0.0), (-10.0, 8.0), 4)
    batch = {"mask": np.ones(3, np.float32)}
    for step, limits in ((0, (-20, 0)), (1, (-17.5, 2)), (4, (-10, 8)), (99, (-10, 8))):
        found = curriculum(step, batch)["logsnr"]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.tile(np.float32(limits), (3, 1)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first": (0.0, -1.0)}, "curriculum.first must be a smallest and a larger"),
        ({"last": (1.0,)}, "last must be a tuple of 2"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_noise_levels_that_are_none_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        NoiseLevels(**fields)
