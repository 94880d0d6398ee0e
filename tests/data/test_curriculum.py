"""The curriculum of resolutions: sizes, stages and fades at the steps they are promised for."""

import numpy as np
import pytest

from genjax.data.curriculum import Lengths, Resolutions
from genjax.errors import UserError

BATCH = {"image": np.random.default_rng(0).normal(size=(2, 8, 4, 3)).astype(np.float32), "label": np.arange(2)}
GROWING = Resolutions((2, 4, 8), steps=(10, 20), fade=4)


@pytest.mark.parametrize(
    ("step", "height", "fade"),
    [(0, 2, 1), (9, 2, 1), (10, 4, 0), (11, 4, 0.25), (14, 4, 1), (29, 4, 1), (30, 8, 0), (33, 8, 0.75), (999, 8, 1)],
)
def test_stages_begin_and_fade_where_they_should(step, height, fade):
    found = GROWING(step, BATCH)
    assert found["image"].shape == (2, height, height // 2, 3) and found["image"].dtype == np.float32
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
        ({"sizes": (2, 8), "steps": (1, 1)}, "all 2 stages but the last"),
        ({"sizes": (2, 8), "steps": (0,)}, "all 2 stages but the last"),
        ({"fade": -1}, "fade"),
    ],
)
def test_what_makes_no_curriculum_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Resolutions(**fields)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="no blocks that make 3 rows"):
        Resolutions((3, 8), (5,))(0, BATCH)
    with pytest.raises(UserError, match="that of the data, 8"):
        Resolutions((2, 4), (5,))(0, BATCH)
    with pytest.raises(UserError, match="for images"):
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
    with pytest.raises(UserError, match="the last length of the curriculum is that of the data, 8"):
        Lengths((2, 9), (5,))(0, ROWS)
    with pytest.raises(UserError, match="for tokens"):
        Lengths()(0, BATCH)
    with pytest.raises(UserError, match="curriculum.lengths rise from 1"):
        Lengths((4, 2), (5,))
    with pytest.raises(UserError, match="all 2 stages but the last"):
        Lengths((2, 4), (5, 6))
