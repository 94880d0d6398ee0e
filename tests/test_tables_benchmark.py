"""The benchmark of tables reads a run's rows, hands them to ctgan's models and scores all alike."""

import sys
import types
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("pandas", reason="ctgan's models take data frames: pip install ctgan")
pytest.importorskip("torch", reason="ctgan is PyTorch: pip install ctgan")

import genjax
from benchmarks import tables
from genjax import gx
from genjax.runs.setup import set_up
from tests.evaluation.tables import vectors

EXPERIMENT = gx.Experiment(
    family=gx.TabularDiffusion(net=gx.ResidualMLP(8, 1, 8)),
    data=gx.EmbeddedTable("diabetes"),
    steps=1,
    batch_size=4,
)


class Copying:
    """A model that draws the rows that it was fitted to, in turn."""

    fitted: ClassVar[list] = []

    def __init__(self, epochs):
        self.epochs = epochs

    def fit(self, frame, discrete):
        self.frame = frame
        self.fitted.append((type(self).__name__, self.epochs, list(discrete)))

    def sample(self, count):
        return self.frame.iloc[np.arange(count) % len(self.frame)].reset_index(drop=True)


class TVAE(Copying):
    pass


class CTGAN(Copying):
    pass


class Mean:
    """A judge whose score is the mean target of the rows that it trains on."""

    def fit(self, codec, rows, valid, test):
        assert len(valid[codec.target]) and len(test[codec.target])
        return [{"mean": rows[codec.target].mean()}] * 2


@pytest.fixture
def ctgan(monkeypatch):
    module = types.SimpleNamespace(TVAE=TVAE, CTGAN=CTGAN)
    monkeypatch.setitem(sys.modules, "ctgan", module)
    monkeypatch.setattr(Copying, "fitted", [])


def a_run(rows=None):
    """A stand-in of a run, which draws these rows or the first training row again and again."""
    codec = set_up(EXPERIMENT).data.codec
    run = types.SimpleNamespace(experiment=EXPERIMENT, codec=codec)
    train = tables.read_rows(run)[0]

    def sample(count, seed):
        return vectors({name: np.repeat(x[:1], count) for name, x in train.items()}, codec)

    run.sample = sample
    return run, train


def test_the_rows_of_a_run_are_those_of_its_table():
    run, train = a_run()
    test = tables.read_rows(run)[1]
    assert [len(part["bmi"]) for part in (train, test)] == [332, 110]
    whole = np.sort(np.concatenate([train["progression"], test["progression"]]))
    from sklearn.datasets import load_diabetes

    np.testing.assert_allclose(whole, np.sort(load_diabetes().target), atol=0.5)


def test_missing_cells_and_numbers_survive_a_model_that_copies(ctgan):
    rows = {
        "size": np.array([1.5, np.nan, 3.0]),
        "kind": np.array(["a", None, "b"], object),
    }
    drawn, seconds = tables.draw_with("CTGAN", rows, 7, 0)
    np.testing.assert_array_equal(drawn["size"], rows["size"])
    assert drawn["kind"].tolist() == ["a", None, "b"] and seconds >= 0
    assert Copying.fitted == [("CTGAN", 7, ["kind"])]


def test_all_models_are_scored_on_the_same_rows(ctgan, monkeypatch):
    run, train = a_run()
    monkeypatch.setattr(genjax, "load", lambda path: run)
    rows = list(tables.compare("runs/x", 3, 0, Mean()))
    assert [row["rows"] for row in rows] == ["real", "runs/x", "ctgan's TVAE", "ctgan's CTGAN"]
    scores = [row["mean"] for row in rows]
    np.testing.assert_allclose(scores[1], train["progression"][0], atol=1e-3)
    np.testing.assert_allclose(scores[2:], train["progression"].mean(), atol=1e-3)
    assert {name: epochs for name, epochs, _ in Copying.fitted} == {"TVAE": 3, "CTGAN": 3}
