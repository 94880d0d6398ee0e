"""Checkpoints: which are kept, what survives a crash, and how a damaged one is handled."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from genjax.errors import UserError
from genjax.experiment import Keep
from genjax.family import init_state
from genjax.optim import Adam
from genjax.runs.checkpoint import Checkpoints


def state_at(step, frozen=None):
    params = {"kernel": jnp.arange(6.0).reshape(2, 3) + step}
    state = init_state(params, {"mean": jnp.ones(3)}, Adam().build(9, ema=0.9), jax.random.key(7))
    return state.replace(step=jnp.int32(step), frozen=frozen)


def target(frozen=None):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        state_at(0, frozen=frozen),
    )


def save(run_dir, scores, keep=Keep(2, "loss"), frozen=None):
    with Checkpoints(run_dir, keep) as checkpoints:
        for step, score in scores.items():
            found = None if score is None else {"loss": score}
            checkpoints.save(
                step, state_at(step, frozen), {"step": step, "meter": [0.1, None]}, found
            )
        checkpoints.wait()
        return checkpoints.list_steps(), checkpoints.find_best_step()


def cut_in_half(run_dir, step):
    cut = [
        f
        for f in (run_dir / "checkpoints" / str(step) / "state").rglob("*")
        if f.is_file() and f.parent.name == "d"
    ]
    assert cut
    for file in cut:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_round_trip_is_bitwise_and_keeps_keys_and_progress(run_dir):
    save(run_dir, {3: None})
    with Checkpoints(run_dir) as checkpoints:
        state, progress = checkpoints.restore(target())
    assert progress == {"step": 3, "meter": [0.1, None]}
    assert jax.tree.structure(state) == jax.tree.structure(state_at(3))
    unkey = lambda s: s.replace(key=jax.random.key_data(s.key))  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, unkey(state), unkey(state_at(3)))


def test_progress_that_changes_while_it_is_written_is_kept_as_it_was(run_dir, monkeypatch):
    progress, write = {"step": 3, "meter": {"loss": [1.0]}}, ocp.CheckpointManager.save

    def late(*args, **kwargs):  # as where the background is slower than the next step
        progress["meter"]["loss"].append(2.0)
        return write(*args, **kwargs)

    monkeypatch.setattr(ocp.CheckpointManager, "save", late)
    with Checkpoints(run_dir) as checkpoints:
        checkpoints.save(3, state_at(3), progress, None)
    with Checkpoints(run_dir, read_only=True) as checkpoints:
        assert checkpoints.restore(target())[1] == {"step": 3, "meter": {"loss": [1.0]}}


def test_the_newest_and_the_best_stay(run_dir):
    assert save(run_dir, {1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0, 5: None}) == ([2, 4, 5], 2)
    assert save(run_dir, {6: 0.5}) == ([5, 6], 6)  # scores of before are remembered


def test_larger_may_be_better(run_dir):
    keep = Keep(1, "loss", larger_is_better=True)
    assert save(run_dir, {1: 3.0, 2: 1.0, 3: 2.0}, keep) == ([1, 3], 1)


def test_a_score_that_is_not_finite_is_not_the_best(run_dir):
    assert save(run_dir, {1: float("nan"), 2: 2.0, 3: 3.0, 4: 5.0})[1] == 2


def test_without_the_named_metric_only_the_newest_stay(run_dir):
    assert save(run_dir, {1: 1.0, 2: 2.0, 3: 3.0}, Keep(2, "fid")) == ([2, 3], None)


def test_frozen_parameters_are_saved_once_and_come_back(run_dir):
    frozen = {"reference": jnp.full(4, 2.5)}
    save(run_dir, {1: None, 2: None}, frozen=frozen)
    assert (run_dir / "frozen").is_dir()
    assert not [f for f in (run_dir / "checkpoints" / "2").rglob("*") if "frozen" in f.name]
    with Checkpoints(run_dir) as checkpoints:
        state, _ = checkpoints.restore(target(frozen))
    np.testing.assert_array_equal(state.frozen["reference"], frozen["reference"])


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(run_dir, capfd):
    save(run_dir, {1: None, 2: None})
    cut_in_half(run_dir, 2)
    with Checkpoints(run_dir) as checkpoints:
        state, progress = checkpoints.restore(target())
        assert checkpoints.list_steps() == [1]
    assert progress["step"] == state.step == 1
    assert "checkpoint 2 is damaged" in capfd.readouterr().err
    assert (run_dir / "damaged" / "2").is_dir()
    assert save(run_dir, {2: None})[0] == [1, 2]


def test_readers_move_nothing(run_dir):
    save(run_dir, {1: None, 2: None})
    cut_in_half(run_dir, 2)
    with Checkpoints(run_dir, read_only=True) as checkpoints:
        assert checkpoints.restore(target())[1]["step"] == 1
    assert not (run_dir / "damaged").exists()


def test_if_none_can_be_read_nothing_is_moved(run_dir):
    save(run_dir, {1: None, 2: None})
    cut_in_half(run_dir, 1)
    cut_in_half(run_dir, 2)
    with Checkpoints(run_dir) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint in .* can be read"):
            checkpoints.restore(target())
        assert checkpoints.list_steps() == [1, 2]


def test_a_new_run_has_nothing_to_restore(run_dir):
    with Checkpoints(run_dir) as checkpoints:
        assert checkpoints.restore(target()) is None and checkpoints.find_best_step() is None
