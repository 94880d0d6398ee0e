"""The order of a mixture: counts are the sums of the weights, and each part comes whole in
each of its epochs.
"""

import pickle

import numpy as np
import pytest

from genjax.data.order.mixing import UNIT, Blend, round_weights


def moving(parts, steps=31, seed=0):
    """Weights [S, K] that change at every step, some of them 0 for a while."""
    weights = np.random.default_rng(seed).random((steps, parts)) ** 3
    weights[: steps // 3, 0] = 0 if parts > 1 else 1
    return weights


@pytest.mark.parametrize(("parts", "bound"), [(1, 0), (2, 0.5), (3, 1), (4, 1), (5, 1.5), (8, 1.5)])
def test_counts_are_the_sums_of_the_weights_rounded(parts, bound):
    units = round_weights(moving(parts))
    positions = np.arange(3001)
    counts = Blend((7,) * parts, units).count_before(positions, 5)
    each = units[np.minimum(positions[:-1] // 5, 30)] / UNIT  # the last row holds from its step on
    due = np.concatenate([np.zeros((1, parts)), np.cumsum(each, 0)])
    assert np.abs(counts - due).max() <= bound + 1e-4
    assert (counts.sum(1) == positions).all()
    assert set(np.unique(np.diff(counts, axis=0))) <= {0, 1}


def test_units_add_up_and_leave_out_what_weighs_nothing():
    units = round_weights(np.array([[1.0, 3.0], [0.0, 2.0], [5.0, 0.0]]))
    assert units.tolist() == [[UNIT // 4, 3 * UNIT // 4], [0, UNIT], [UNIT, 0]]
    assert (round_weights(moving(6)).sum(1) == UNIT).all()


def test_counts_of_constant_weights_are_exact_at_any_position():
    blend = Blend((3, 4), round_weights(np.array([[0.25, 0.75]])))
    positions = 4 * 10 ** np.arange(12)
    assert np.array_equal(
        blend.count_before(positions, 8), np.stack([positions // 4, positions // 4 * 3], 1)
    )


def test_each_part_comes_whole_in_each_of_its_epochs_and_in_another_order():
    sizes = (5, 7, 11)
    found = Blend(sizes, round_weights(moving(3)))(3, 0, 1200, 6)
    for number, size in enumerate(sizes):
        own = found[(found >= sum(sizes[:number])) & (found < sum(sizes[: number + 1]))] - sum(
            sizes[:number]
        )
        # A step has its ranks in random order: a whole number of steps holds whole epochs but at
        # their borders.
        counts = np.bincount(own, minlength=size)
        assert counts.max() - counts.min() <= 1
    assert found.tolist() != Blend(sizes, round_weights(moving(3)))(4, 0, 1200, 6).tolist()


def test_a_part_is_drawn_without_replacement_one_at_a_time():
    found = Blend((5, 7), round_weights(np.array([[0.5, 0.5]])))(0, 0, 700, 1)
    for own, size in ((found[found < 5], 5), (found[found >= 5] - 5, 7)):
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert (np.sort(epochs, 1) == np.arange(size)).all()
        assert len({tuple(epoch) for epoch in epochs}) > 10


def test_any_slice_of_positions_is_that_of_the_whole():
    blend = Blend((5, 7, 11), round_weights(moving(3)))
    whole = blend(9, 0, 600, 6)
    for position, count in ((0, 6), (6, 12), (100, 50), (599, 1), (301, 0)):
        assert blend(9, position, count, 6).tolist() == whole[position : position + count].tolist()


def test_worker_processes_can_hold_the_order():
    blend = Blend((5, 7, 11), round_weights(moving(3)))
    assert np.array_equal(pickle.loads(pickle.dumps(blend))(9, 60, 12, 6), blend(9, 60, 12, 6))


def test_the_order_is_pinned():
    # a run resumed under another numpy must see the same examples
    assert Blend((5, 7), round_weights(np.array([[1.0, 2.0], [2.0, 1.0]])))(
        0, 3, 9, 6
    ).tolist() == [
        9,
        8,
        5,
        11,
        3,
        4,
        2,
        1,
        10,
    ]


def test_parts_come_in_random_order_within_a_step():
    found = (
        Blend((1000, 1000), round_weights(np.array([[0.5, 0.5]])))(0, 0, 800, 8).reshape(-1, 8)
        < 1000
    )
    assert (found.sum(1) == 4).all()
    assert (np.abs(found.mean(0) - 0.5) < 0.2).all() and len(np.unique(found, axis=0)) > 20
