"""What a family knows of each example: once for each, in order, on any devices, and there in
every batch.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax import parallel
from genjax.continued import Continued, wrap_family
from genjax.experiment import Every
from genjax.family import init_state
from genjax.optim import SGD
from genjax.parallel import Devices
from genjax.runs.ordering import Enriched, enrich
from genjax.schedules import Constant
from tests import toy


@dataclass(frozen=True)
class Knowing(Continued, toy.Toy):
    """Knows the sum of each example's entries, times a number of the state's that stays."""

    def precompute(self, state, batch):
        sums = factor(state) * batch["points"].sum(1)
        return {"sum": sums, "pair": jnp.stack([sums, -sums], 1)}

    def train_step(self, state, batch, *, optimizer, axis=None):
        wrong = jnp.abs(batch["sum"] - factor(state) * batch["points"].sum(1)).max() > 1e-4
        state, metrics = super().train_step(state, batch, optimizer=optimizer, axis=axis)
        return state, metrics | {
            "wrong": metrics["loss"]._replace(sum=wrong.astype(jnp.float32), weight=jnp.ones(()))
        }


def factor(state):
    return 2 + jax.random.uniform(state.key)


def state_of(family=Knowing()):
    params, variables = family.init(jax.random.key(0), {}, toy.ToyData().open().spec)
    return init_state(params, variables, SGD(Constant(0.1)).build(1), jax.random.key(0))


@pytest.mark.parametrize(
    "devices",
    [Devices(count=1), Devices(count=8), Devices(count=8, mode="sharded", fsdp=2)],
    ids=lambda d: d.mode,
)
def test_each_example_gets_its_own(devices):
    layout, split = (
        parallel.start(devices),
        toy.ToyData().open().splits["test"],
    )  # 40 examples: 2.5 batches
    found = enrich(Knowing(), layout.init(state_of), split, layout, batch_size=16)
    assert isinstance(found, Enriched) and len(found) == 40 and found.in_memory == split.in_memory
    rows = np.array([39, 0, 7, 7])
    batch = found.batch(rows)
    points = split.batch(rows)["points"]
    np.testing.assert_array_equal(batch["points"], points)
    np.testing.assert_allclose(
        batch["sum"], factor(state_of()) * points.sum(1), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(batch["pair"], np.stack([batch["sum"], -batch["sum"]], 1))
    assert set(batch) == {"points", "sum", "pair"}


def test_a_family_that_knows_nothing_leaves_the_split_alone():
    split = toy.ToyData().open().splits["train"]
    assert (
        enrich(
            wrap_family(toy.Toy()), state_of(toy.Toy()), split, parallel.start(Devices(count=1)), 16
        )
        is split
    )


@pytest.mark.parametrize("several", [1, 4])
def test_every_training_batch_has_it_and_a_run_goes_on(run_dir, several):
    every = Every(log=4, evaluate=0, sample=0, checkpoint=0)
    told = toy.experiment(family=Knowing(), steps=12, steps_per_dispatch=several, every=every)
    whole = genjax.train(told, run_dir / "whole", quiet=True)
    genjax.train(dataclasses.replace(told, steps=4), run_dir / "parts", quiet=True)
    parts = genjax.train(told, run_dir / "parts", quiet=True)
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, parts.state.params)
    rows = (run_dir / "whole" / "metrics.jsonl").read_text()
    assert rows.count('"wrong": 0.0') == 3
