"""The benchmark beside APEBench: its summary, and ours on a scenario that is a rotation."""

import types

import jax
import numpy as np
import pytest

import genjax
from benchmarks import apebench


def test_errors_are_summarised_by_their_geometric_mean():
    errors = np.concatenate([[0.01, 0.1], np.full(98, 1.0), np.full(100, 9.0)])
    found = apebench.summarise(errors)
    assert found["nRMSE_1"] == 0.01 and found["nRMSE_10"] == found["nRMSE_100"] == 1.0
    np.testing.assert_allclose(found["geometric_mean"], 10 ** (-3 / 100))


@pytest.fixture
def shifted():
    """Waves on 8 points that move by one point a step, as APEBench lays them out."""
    draw = np.random.default_rng(0)
    waves = draw.normal(size=(6, 8))
    whole = np.stack([np.roll(waves, step, axis=1) for step in range(5)], 1)[:, :, None]

    def measure(predicted, true):
        error = np.linalg.norm(predicted - true, axis=(2, 3)) / np.linalg.norm(true, axis=(2, 3))
        return {"mean_nRMSE": error.mean(0)[None]}

    return types.SimpleNamespace(
        get_train_data=lambda: whole,
        get_test_data=lambda: whole[:2],
        perform_tests_on_rollout=measure,
        run_raw=lambda **options: (None, None, None, {"mean_nRMSE": np.full((1, 4), 0.5)}, 0, 0),
        get_parameter_count=lambda net: 3,
    )


def test_three_rows_are_printed_for_a_scenario(shifted, monkeypatch):
    asked = {}

    def train(experiment, run_dir):
        data = experiment.data.open()
        asked.update(width=data.spec.shape, seed=experiment.seed, change=experiment.family.change)
        codec = data.codec

        def roll_out(state, key, given, sampler, length):
            """Know the answer."""
            x = given[:, 0] * np.array(codec.scale) + np.array(codec.mean)
            states = np.stack([np.roll(x, step, axis=1) for step in range(length)], 1)
            return codec.encode(states)

        family = types.SimpleNamespace(roll_out=roll_out, sampler=None)
        state = types.SimpleNamespace(params={"w": np.zeros(5)})
        return types.SimpleNamespace(family=family, codec=codec, eval_state=state)

    monkeypatch.setattr(genjax, "train", train)
    # What knows the answer computes with numpy.
    plain = types.SimpleNamespace(jit=lambda function: function, random=jax.random, tree=jax.tree)
    monkeypatch.setattr(apebench, "jax", plain)
    rows = list(apebench.compare(shifted, "MLP;4;1;relu", 50, 3))
    assert [row["model"] for row in rows] == [
        "the start, unchanged",
        "APEBench's MLP;4;1;relu",
        "Forecast",
    ]
    assert rows[1]["parameters"] == 3 and rows[1]["geometric_mean"] == 0.5
    assert rows[2]["parameters"] == 5 and rows[2]["nRMSE_1"] < 1e-5 < rows[0]["nRMSE_1"]
    assert asked["width"] == (2, 8) and asked["seed"] == 3 and asked["change"] > 0
