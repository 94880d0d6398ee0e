"""Transposition: each piece is moved as a whole, and only as far as there are notes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.data.audio.augment import Transposition
from genjax.data.audio.music import ChoraleCodec
from genjax.errors import UserError

CODEC = ChoraleCodec()
PIECES = [[(72, 67, 60), (), (74, 60)], [(65,), (64, 50)]]


def packed(rows):
    """Two pieces and padding in each row, as ``Packed`` lays them out."""
    one, two = (np.concatenate([[0], CODEC.encode(piece), [0]]) for piece in PIECES)
    tokens = np.concatenate([one, two, [0, 0]])
    segments = np.repeat([1, 2, 0], [len(one), len(two), 2])
    batch = {"tokens": np.tile(tokens, (rows, 1)), "segment_ids": np.tile(segments, (rows, 1))}
    return {name: jnp.asarray(x, jnp.int32) for name, x in batch.items()}, len(one), len(two)


def intervals(tokens, piece):
    """By how much each note of a piece was moved; the steps have to be those of the piece."""
    frames = CODEC.decode(np.asarray(tokens))
    assert [len(frame) for frame in frames] == [len(frame) for frame in piece]
    both = ((frame, old) for frame, old in zip(frames, piece, strict=True))
    return {found - note for frame, old in both for found, note in zip(frame, old, strict=True)}


def test_each_piece_of_a_row_moves_as_a_whole_by_every_interval():
    batch, one, two = packed(400)
    found = jax.jit(Transposition())(jax.random.key(0), batch)
    assert found["segment_ids"] is not None and (found["tokens"][:, one + two :] == 0).all()
    moves = []
    for row in np.asarray(found["tokens"]):
        each = intervals(row[:one], PIECES[0]), intervals(row[one : one + two], PIECES[1])
        assert len(each[0]) == len(each[1]) == 1
        moves.append((each[0].pop(), each[1].pop()))
    assert {a for a, _ in moves} == {b for _, b in moves} == set(range(-5, 7))
    assert abs(np.corrcoef(np.array(moves).T)[0, 1]) < 0.15  # the pieces of a row are drawn apart
    np.testing.assert_allclose(np.mean(moves), 0.5, atol=0.4)


def test_a_piece_stays_where_a_note_would_leave_the_keyboard():
    tokens = jnp.asarray(
        np.tile(np.concatenate([[0], CODEC.encode([(108, 60)]), [0]]), (60, 1)), jnp.int32
    )
    batch = {"tokens": tokens, "loss_mask": jnp.ones(tokens.shape).at[:, 0].set(0)}
    found = Transposition()(jax.random.key(1), batch)["tokens"]
    moves = np.asarray(found - tokens)
    assert set(moves[:, 1].tolist()) == set(range(-5, 1)) and (moves[:, 1] == moves[:, 2]).all()
    assert (moves[:, [0, 3, 4]] == 0).all()


def test_no_interval_changes_nothing_and_what_is_no_music_is_refused():
    batch, *_ = packed(3)
    found = Transposition(0, 0)(jax.random.key(0), batch)
    np.testing.assert_array_equal(found["tokens"], batch["tokens"])
    with pytest.raises(UserError, match="down must be at least 0"):
        Transposition(down=-1)
    with pytest.raises(UserError, match=r"highest must be at least 9 \(lowest\)"):
        Transposition(lowest=9, highest=8)
    with pytest.raises(UserError, match="a batch with tokens"):
        Transposition()(jax.random.key(0), {"image": jnp.zeros((1, 2))})
